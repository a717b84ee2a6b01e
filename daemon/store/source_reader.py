"""Read an image wherever it lies: a file below a folder, or an object in a store."""

from __future__ import annotations

from collections.abc import Callable

from config.store_url import is_store_url
from trainer.images.picture import Limits
from trainer.images.read import FileContent, JudgedFile, is_unchanged, read_file, read_judged


def read_source(
    path: bytes,
    limits: Limits,
    expected: tuple[int, int, int] | None = None,
    *,
    progress: Callable[[], object] = lambda: None,
    request_seconds: float | None = None,
) -> FileContent:
    """Return the bytes and identity of a file or an object; raise PictureError for anything else.

    `expected` is the (size, mtime_ns, inode) that is wanted. `progress` is called after every part of an
    object, of which each must come within `request_seconds`.
    """
    if not is_store_url(path):
        return read_file(path, limits, expected)
    from daemon.store.object_reader import REQUEST_SECONDS, read_object

    seconds = REQUEST_SECONDS if request_seconds is None else request_seconds
    return read_object(path, limits, expected, progress=progress, request_seconds=seconds)


def read_judged_source(file: JudgedFile, limits: Limits) -> FileContent:
    """Return the bytes that were judged; raise PictureError if they are not there any more."""
    if not is_store_url(file.root or file.path):
        return read_judged(file, limits)
    from daemon.store.object_reader import read_judged_object

    return read_judged_object(file, limits)


def is_source_unchanged(file: JudgedFile, content: FileContent) -> bool:
    """Whether a file or an object still is the version that was read."""
    if not is_store_url(file.root or file.path):
        return is_unchanged(file, content)
    from daemon.store.object_reader import is_object_unchanged

    return is_object_unchanged(file, content)
