"""Read an object's bytes once: of the version that is asked for only, and bounded in size and time.

A worker reads by itself, with no state but its own client: the same on the machine of the daemon and on
others. The first answer's headers tell which version it is of, before a byte of it is read; every further
part is asked for with If-Match. So what is returned is one version, however often the object is overwritten
meanwhile.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from config.errors import UsageError
from config.store_url import StoreUrl, parse_store_url
from daemon.store.object_identity import ObjectIdentity, identity_of
from daemon.store.store_clients import open_store
from daemon.store.store_errors import StoreFault, StoreTrouble, explain
from trainer.images.picture import Limits, PictureError, ReadFailure
from trainer.images.read import FileContent, JudgedFile

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# Bytes asked for at once. Each part is a request (0.0000004 $ on S3) and must come within REQUEST_SECONDS.
PART_BYTES = 4 << 20
# Shorter than decode_timeout (10 s): a store that hangs is then told from a file that makes a decoder hang.
REQUEST_SECONDS = 6.0
_RETRIES = 1

_FAILURES = {
    StoreFault.GONE: (ReadFailure.GONE, "the object is gone"),
    StoreFault.CHANGED: (ReadFailure.CHANGED, "the object changed before it was read"),
    StoreFault.BAD_KEY: (ReadFailure.PERMANENT, "a key that cannot be read"),
}


def read_object(
    path: bytes,
    limits: Limits,
    expected: tuple[int, int, int] | None = None,
    *,
    progress: Callable[[], object] = lambda: None,
    request_seconds: float = REQUEST_SECONDS,
) -> FileContent:
    """Return the bytes and identity of the object at an address; raise PictureError as `read_file` does.

    `expected` is the identity (size, mtime_ns, inode) that is wanted: any other version is CHANGED. More than
    `limits.max_bytes` are refused before anything is read. `progress` is called after every part.
    """
    store, key = _place(path, request_seconds)
    if expected is not None:
        _check_size(expected[0], limits)
    try:
        return _read(store, key, limits, expected, progress)
    except PictureError:
        raise
    except Exception as error:
        raise failure(explain(error)) from error


def read_judged_object(file: JudgedFile, limits: Limits) -> FileContent:
    """Return the bytes that were judged; raise PictureError if they are not there any more."""
    if file.sha256 is None:
        raise PictureError(ReadFailure.PERMANENT, "nothing tells what was judged: no hash of it was stored")
    content = read_object(address(file), limits)
    if content.sha256 != file.sha256:
        raise PictureError(ReadFailure.CHANGED, "the object has changed since it was judged")
    return content


def is_object_unchanged(file: JudgedFile, content: FileContent) -> bool:
    """Whether the object at an address is still the version that was read; one HEAD."""
    try:
        return look_at_object(address(file)) == (content.size, content.mtime_ns, content.inode)
    except PictureError:
        return False


def look_at_object(path: bytes) -> ObjectIdentity:
    """Return the identity of an object without reading it; raise PictureError if there is none."""
    store, key = _place(path, REQUEST_SECONDS)
    try:
        return identity_of(_head(store, key))
    except Exception as error:
        raise failure(explain(error)) from error


def address(file: JudgedFile) -> bytes:
    """Return the whole address of a judged object."""
    return os.path.join(file.root, file.path)


def failure(trouble: StoreTrouble) -> PictureError:
    """Return what a worker says of an object that could not be read."""
    kind, words = _FAILURES.get(
        trouble.fault, (ReadFailure.TRANSIENT, f"cannot be read: the object store {trouble.words}")
    )
    return PictureError(kind, words)


def _place(path: bytes, request_seconds: float) -> tuple[ObjectStore, str]:
    try:
        url = parse_store_url(os.fsdecode(path))
        url, key = (split_file_url(url)) if url.scheme == "file" else (url, url.key)
        store = open_store(url, request_seconds=request_seconds, retries=_RETRIES)
    except UsageError as error:
        # The daemon was able to: it is this process that lacks the extra or the credentials.
        raise PictureError(ReadFailure.TRANSIENT, f"cannot be read: {error}") from None
    return store, key


def split_file_url(url: StoreUrl) -> tuple[StoreUrl, str]:
    """Return the folder and the name of an object that is a local file."""
    folder, _, name = url.bucket.rpartition("/")
    return StoreUrl("file", folder or "/", ""), name


def _read(
    store: ObjectStore,
    key: str,
    limits: Limits,
    expected: tuple[int, int, int] | None,
    progress: Callable[[], object],
) -> FileContent:
    import obstore

    if expected is None:
        found = _head(store, key)
        expected = identity_of(found)
        _check_size(expected.size, limits)
    size = expected[0]
    first = obstore.get(store, key, options=_options(0, size, None))
    meta: Any = first.meta
    identity = identity_of(meta)
    if identity != expected:
        raise PictureError(ReadFailure.CHANGED, "the object changed before it was read")
    data = bytes(first.bytes())
    progress()
    if size > PART_BYTES:
        data = b"".join([data, *_rest(store, key, size, meta["e_tag"], progress)])
    if len(data) != size:
        raise PictureError(ReadFailure.CHANGED, "the object changed while it was read")
    return FileContent(data, hashlib.sha256(data).digest(), *identity)


def _rest(
    store: ObjectStore, key: str, size: int, e_tag: str | None, progress: Callable[[], object]
) -> list[bytes]:
    import obstore

    parts = []
    for start in range(PART_BYTES, size, PART_BYTES):
        answer = obstore.get(store, key, options=_options(start, size, e_tag))
        parts.append(bytes(answer.bytes()))
        progress()
    return parts


def _options(start: int, size: int, e_tag: str | None) -> Any:
    """Return what is asked for: a part that begins at a byte, of the version with the tag."""
    options: dict[str, Any] = {}
    if size > PART_BYTES:
        options["range"] = (start, min(size, start + PART_BYTES))
    if e_tag:
        options["if_match"] = e_tag
    return options


def _head(store: ObjectStore, key: str) -> Any:
    import obstore

    return obstore.head(store, key)


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.max_bytes:
        raise PictureError(
            ReadFailure.PERMANENT, f"{size} bytes: more than the limit of {limits.max_bytes} bytes"
        )
    if size == 0:
        raise PictureError(ReadFailure.PERMANENT, "the object is empty")
