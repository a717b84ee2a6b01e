"""What happens to an image after its row is committed: it stays, or it is moved.

A move never overwrites: a name that is taken gets a number. It never moves a file that changed since
it was judged: the new version is still to come.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass

from storage.records import FileVersion


@dataclass(frozen=True, slots=True)
class MoveError(Exception):
    """A file could not be moved; it stays where it is and is tried again later."""

    reason: str


def move_away(root: bytes, version: FileVersion, target: bytes) -> bytes | None:
    """Move a judged file below `target`, keeping its folders; return the new path.

    Returns None if the file is gone or is another version by now. Raises MoveError when the move
    failed for a reason that may pass (permission, full disk, missing target).
    """
    source = os.path.join(root, version.path)
    try:
        seen = os.lstat(source)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MoveError(error.strerror or "unreadable") from error
    if (seen.st_size, seen.st_mtime_ns, seen.st_ino) != (version.size, version.mtime_ns, version.inode):
        return None
    try:
        folder = os.path.join(target, version.folder)
        os.makedirs(folder, exist_ok=True)
        return _into(source, folder, version.name)
    except OSError as error:
        raise MoveError(error.strerror or "failed") from error


def _into(source: bytes, folder: bytes, name: bytes) -> bytes:
    number = 0
    while True:
        destination = os.path.join(folder, _numbered(name, number))
        try:
            os.link(
                source, destination, follow_symlinks=False
            )  # fails if the name is taken: never overwrites
        except FileExistsError:
            number += 1
            continue
        except OSError:
            return _copy_into(source, folder, name)  # another device, or no hard links here
        os.unlink(source)
        return destination


def _copy_into(source: bytes, folder: bytes, name: bytes) -> bytes:
    """Copy, flush, then take the name; the source goes last, so that a crash leaves two, never none."""
    number = 0
    while True:
        destination = os.path.join(folder, _numbered(name, number))
        try:
            handle = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            number += 1
            continue
        try:
            with os.fdopen(handle, "wb") as out, open(source, "rb") as stream:
                shutil.copyfileobj(stream, out, 1 << 20)
                out.flush()
                os.fsync(out.fileno())
            shutil.copystat(source, destination)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(destination)
            raise
        os.unlink(source)
        return destination


def _numbered(name: bytes, number: int) -> bytes:
    """Return x.png, x.1.png, x.2.png ..., at most 255 bytes long."""
    if number == 0:
        return name
    stem, extension = os.path.splitext(name)
    tail = b".%d" % number + extension[:64]
    return stem[: 255 - len(tail)] + tail
