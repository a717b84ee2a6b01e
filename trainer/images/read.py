"""Read a file's bytes once: regular files only, and only if nobody writes to it meanwhile."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from config.filesystem import opened_folder
from trainer.images.formats.sniff import why_archive
from trainer.images.picture import Limits, PictureError, ReadFailure

# O_NONBLOCK: opening a FIFO must not wait for its writer. O_NOFOLLOW: a symbolic link may lead
# anywhere. O_NOCTTY: a terminal must not become ours. An open that truncates or creates is never asked for.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY

_CHUNK = 1 << 20  # bytes per read once a file has outgrown the size it was opened with


@dataclass(frozen=True, slots=True)
class FileContent:
    """The bytes of one version of a file."""

    data: bytes
    sha256: bytes  # 32 bytes
    size: int  # bytes
    mtime_ns: int
    inode: int


def read_file(
    path: bytes | str | Path, limits: Limits, expected: tuple[int, int, int] | None = None
) -> FileContent:
    """Return the bytes and identity of a regular file; raise PictureError for anything else.

    `expected` is the (size, mtime_ns, inode) of the version that is wanted: another version, or one
    that changes while it is read, is CHANGED. Size in bytes is capped by `limits.max_bytes`.
    """
    descriptor = -1
    try:
        _check_kind(os.lstat(path))  # what is not a regular file is not even opened
        descriptor = os.open(path, _FLAGS)
        return _read(descriptor, limits, expected)
    except OSError as error:
        raise _failure(error) from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class JudgedFile:
    """The very file that a result is about."""

    root: bytes  # its inbox, absolute; b"": the path says all
    path: bytes  # relative to the root, or absolute
    sha256: bytes | None  # of the bytes that were judged


def read_judged(file: JudgedFile, limits: Limits) -> FileContent:
    """Return the bytes that were judged; raise PictureError if they are not there any more.

    The file is opened below its root without following a link, and its content is compared: a name that
    leads elsewhere by now never shows another file.
    """
    if file.sha256 is None:
        raise PictureError(ReadFailure.PERMANENT, "nothing tells what was judged: no hash of it was stored")
    try:
        with _folder_of(file) as (handle, name):
            if handle is None:
                raise PictureError(ReadFailure.GONE, "the file is gone")
            content = _read_at(name, handle, limits)
    except OSError as error:
        raise _failure(error) from error
    if content.sha256 != file.sha256:
        raise PictureError(ReadFailure.CHANGED, "the file has changed since it was judged")
    return content


def is_unchanged(file: JudgedFile, content: FileContent) -> bool:
    """Whether a file still looks as it did when its content was read: size, time and inode."""
    try:
        with _folder_of(file) as (handle, name):
            return handle is not None and _version(os.lstat(name, dir_fd=handle)) == (
                content.size,
                content.mtime_ns,
                content.inode,
            )
    except OSError:
        return False


@contextlib.contextmanager
def _folder_of(file: JudgedFile) -> Iterator[tuple[int | None, bytes]]:
    """Open the folder of a file below its root without following a link, None if it is gone; and the name."""
    folder, name = os.path.split(file.path)
    base, below = (file.root, folder) if file.root else (folder or b"/", b"")
    with opened_folder(base, below) as handle:
        yield handle, name


def _read_at(name: bytes, folder: int, limits: Limits) -> FileContent:
    _check_kind(os.lstat(name, dir_fd=folder))
    descriptor = os.open(name, _FLAGS, dir_fd=folder)
    try:
        return _read(descriptor, limits, None)
    finally:
        os.close(descriptor)


def _read(descriptor: int, limits: Limits, expected: tuple[int, int, int] | None) -> FileContent:
    before = os.fstat(descriptor)
    _check_kind(before)  # the name may have changed hands since lstat
    version = _version(before)
    if expected is not None and version != expected:
        raise PictureError(ReadFailure.CHANGED, "the file changed before it was read")
    if before.st_size > limits.max_bytes:
        # Of a large archive its kind says more than its size.
        why = why_archive(os.pread(descriptor, 512, 0))
        too_large = f"{before.st_size} bytes: more than the limit of {limits.max_bytes} bytes"
        raise PictureError(ReadFailure.PERMANENT, why or too_large)
    if before.st_size == 0:
        raise PictureError(ReadFailure.INCOMPLETE, "the file is empty")
    data = _all(descriptor, before.st_size)
    if _version(os.fstat(descriptor)) != version or len(data) != before.st_size:
        raise PictureError(ReadFailure.CHANGED, "the file changed while it was read")
    return FileContent(data, hashlib.sha256(data).digest(), *version)


def _all(descriptor: int, size: int) -> bytes:
    """Read up to `size` bytes and one more, so that a file that grows is noticed."""
    data = os.read(descriptor, size + 1)
    if len(data) >= size:  # the common case: one system call
        return data
    parts = [data]
    got = len(data)
    while got <= size:
        part = os.read(descriptor, min(_CHUNK * 64, size + 1 - got))
        if not part:
            break
        parts.append(part)
        got += len(part)
    return b"".join(parts)


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _check_kind(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    name = next((words for test, words in _KINDS if test(status.st_mode)), "something else")
    raise PictureError(ReadFailure.PERMANENT, f"{name}, not a regular file")


# Errors that no waiting will cure. Everything else an operating system may answer (busy, permission,
# I/O, stale network handle, no descriptors left) can be over a minute later.
_PERMANENT = {
    errno.ELOOP: "a symbolic link, not a regular file",
    errno.ENXIO: "a socket, not a regular file",
    errno.ENAMETOOLONG: "the file name is too long",
    errno.EISDIR: "a folder, not a regular file",
}


def _failure(error: OSError) -> PictureError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return PictureError(ReadFailure.GONE, "the file is gone")
    if error.errno in _PERMANENT:
        return PictureError(ReadFailure.PERMANENT, _PERMANENT[error.errno])
    words = os.strerror(error.errno) if error.errno else type(error).__name__
    return PictureError(ReadFailure.TRANSIENT, f"the file cannot be read: {words}")
