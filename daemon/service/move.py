"""Move a judged file away, never over another, and never a file that changed meanwhile.

What is moved is the version judged, told by inode, size and mtime. POSIX has no "remove this name if it
still means that file", so nothing is decided by a name that somebody may rename over meanwhile:

1. the target gets a second name of the file (a hard link, or a flushed copy on another device), and that
   name is compared with the version: a newcomer that slipped in before is left alone;
2. the source's name is renamed to a private one in its folder, compared again, and only then removed. If
   it turns out to be a newcomer, it gets its name back.

A crash between any two steps leaves the file under two names, never under none; the same call, repeated,
finds the file where it lies and finishes. Folders are opened one by one without following links, so no
link inside inbox or target leads out of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from config.errors import BtError
from config.filesystem import opened_folder
from storage.records import FileVersion

# What moves lay down while they work begins with a dot: no inbox takes it for an image.
_PART = b".bt-part-"
_LEAVING = b".bt-moving-"
# The folder cannot take any file now; others to the same place need not be tried.
_PLACE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})
_COPY_BYTES = 1 << 20


class MoveError(BtError):
    """A file could not be moved; it stays where it is and is tried again later."""

    def __init__(self, reason: str, *, place: bool = False) -> None:
        """`place`: the target takes no file at all now (full, read-only)."""
        super().__init__(reason)
        self.reason = reason
        self.place = place


def move_away(root: bytes, version: FileVersion, target: bytes) -> bytes | None:
    """Move a judged file below `target`, keeping its folders; return the new absolute path.

    A file that an earlier, interrupted call moved is found there. Returns None if the file is gone or is
    another version by now. Raises MoveError when the move failed for a reason that may pass (permission,
    full disk, a file in a folder's place).
    """
    with _move_errors():
        with opened_folder(root, version.folder) as source:
            if source is not None and _is_version(source, version.name, version):
                os.makedirs(target, mode=0o700, exist_ok=True)
                with opened_folder(target, version.folder, make=True) as there:
                    assert there is not None
                    name = _give(source, version, there, version.name)
                    if name is None:
                        return None
                    if not _take_away(source, version) and _is_altered(there, name, version):
                        os.unlink(name, dir_fd=there)  # written to meanwhile: it is judged anew at home
                        return None
                    return os.path.join(target, version.folder, name)
            if source is not None and _is_version(source, _leaving(version), version):
                os.unlink(_leaving(version), dir_fd=source)  # an interrupted move's last step
        with opened_folder(target, version.folder) as there:
            found = None if there is None else _find_moved(there, version)
            return None if found is None else os.path.join(target, version.folder, found)


def version_at(path: bytes, version: FileVersion) -> FileVersion | None:
    """Return what lies at an absolute path as a version of the same name, None if that is no regular file."""
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(seen.st_mode):
        return None
    return version._replace(size=seen.st_size, mtime_ns=seen.st_mtime_ns, inode=seen.st_ino)


@dataclass(frozen=True, slots=True)
class Homecoming:
    """A file on its way back from where it was moved: it has both names until `finish` or `undo`."""

    root: bytes
    version: FileVersion  # as it lies in the inbox now
    moved_to: bytes  # absolute

    def finish(self) -> None:
        """Remove the name it had away from home, after the ledger knows; a failure leaves two names."""
        with contextlib.suppress(OSError), opened_folder(os.path.dirname(self.moved_to), b"") as away:
            lies = version_at(self.moved_to, self.version)
            if away is not None and lies is not None and lies[3:5] == self.version[3:5]:
                _take_away(away, lies._replace(name=os.path.basename(self.moved_to)))

    def undo(self) -> None:
        """Take the name in the inbox back."""
        if os.path.lexists(self.moved_to):
            with contextlib.suppress(OSError), opened_folder(self.root, self.version.folder) as home:
                if home is not None and _is_version(home, self.version.name, self.version):
                    os.unlink(self.version.name, dir_fd=home)


def bring_home(root: bytes, version: FileVersion, moved_to: bytes) -> Homecoming | None:
    """Give a moved file its name in the inbox again, mended or not; None if it is nowhere any more.

    Raises MoveError if another file has its place, or its folder cannot be written.
    """
    place = os.path.join(root, version.path)
    lies, home = version_at(moved_to, version), version_at(place, version)
    if home is not None and (lies is None or (lies.size, lies.mtime_ns) == (home.size, home.mtime_ns)):
        return Homecoming(root, home, moved_to)  # an earlier call came that far
    if lies is None:
        return None
    if os.path.lexists(place):
        raise MoveError("its place in the inbox is taken by another file")
    source = lies._replace(name=os.path.basename(moved_to))
    with _move_errors(), opened_folder(os.path.dirname(moved_to), b"") as away:
        if away is None:
            return None
        with opened_folder(root, version.folder, make=True) as folder:
            assert folder is not None
            if _give(away, source, folder, version.name, number=False) is None:
                raise MoveError("it changes while it is brought back")
    home = version_at(place, version)
    return None if home is None else Homecoming(root, home, moved_to)


@contextmanager
def _move_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MoveError(error.strerror or "failed", place=error.errno in _PLACE_ERRORS) from error


def _is_version(folder: int, name: bytes, version: FileVersion) -> bool:
    try:
        seen = os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return _same(seen, version)


def _same(seen: os.stat_result, version: FileVersion) -> bool:
    told = (version.size, version.mtime_ns, version.inode)
    return stat.S_ISREG(seen.st_mode) and (seen.st_size, seen.st_mtime_ns, seen.st_ino) == told


def _give(
    source: int, version: FileVersion, folder: int, name: bytes, *, number: bool = True
) -> bytes | None:
    """Give the file a name in another folder as well; return the name, None if the source is a newcomer."""
    try:
        given = _take_name(source, version.name, folder, name, number=number)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _copy(source, version, folder, name, number=number)
    if _is_version(folder, given, version):
        return given
    os.unlink(given, dir_fd=folder)
    return None


def _copy(source: int, version: FileVersion, folder: int, name: bytes, *, number: bool) -> bytes | None:
    """Copy to a private name, flush, compare the source again, then take the name."""
    part = _PART + secrets.token_hex(8).encode()
    # Not blocking: a FIFO may have come into the file's place.
    reading = os.open(version.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    with os.fdopen(reading, "rb") as stream:
        before = os.fstat(stream.fileno())
        if not _same(before, version):
            return None
        writing = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            with os.fdopen(writing, "wb") as out:
                shutil.copyfileobj(stream, out, _COPY_BYTES)
                out.flush()
                os.fchmod(out.fileno(), stat.S_IMODE(before.st_mode))
                os.utime(out.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
                os.fsync(out.fileno())
            if not _same(os.fstat(stream.fileno()), version):
                return None
            given = _take_name(folder, part, folder, name, number=number)
            os.fsync(folder)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
    return given


def _take_name(source: int, old: bytes, folder: int, name: bytes, *, number: bool) -> bytes:
    """Link under the name, or a numbered one; raise FileExistsError if the one name wanted is taken."""
    tried = 0
    while True:
        wanted = _numbered(name, tried)
        try:
            os.link(old, wanted, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            if not number:
                raise
            tried += 1
        except OSError as error:
            # A file system without hard links: the name is checked, then taken; nobody else writes here.
            if error.errno not in _NO_LINKS or source != folder:
                raise
            if _exists(folder, wanted):
                tried += 1
                continue
            os.rename(old, wanted, src_dir_fd=source, dst_dir_fd=folder)
            return wanted
        else:
            return wanted


def _exists(folder: int, name: bytes) -> bool:
    try:
        os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def _take_away(folder: int, version: FileVersion) -> bool:
    """Remove the file's name; return False if it meant another file by now, which keeps it."""
    leaving = _leaving(version)
    try:
        os.rename(version.name, leaving, src_dir_fd=folder, dst_dir_fd=folder)
    except FileNotFoundError:
        return True  # deleted by somebody else: what was judged lies in the target
    if _is_version(folder, leaving, version):
        os.unlink(leaving, dir_fd=folder)
        return True
    # Should its name be taken again, it gets a numbered one: nothing is overwritten.
    _take_name(folder, leaving, folder, version.name, number=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(leaving, dir_fd=folder)
    return False


def _is_altered(folder: int, name: bytes, version: FileVersion) -> bool:
    """Whether a name is the judged file itself, no copy, and its content is another by now."""
    seen = os.lstat(name, dir_fd=folder)
    return seen.st_ino == version.inode and not _same(seen, version)


def _leaving(version: FileVersion) -> bytes:
    return _LEAVING + b"%d" % version.inode


def _find_moved(folder: int, version: FileVersion) -> bytes | None:
    """Return under which name an interrupted move left the file: the same inode, or a copy of it."""
    number = 0
    while True:
        name = _numbered(version.name, number)
        try:
            seen = os.lstat(name, dir_fd=folder)
        except FileNotFoundError:
            return None
        if stat.S_ISREG(seen.st_mode) and (seen.st_size, seen.st_mtime_ns) == (
            version.size,
            version.mtime_ns,
        ):
            return name
        number += 1


def _numbered(name: bytes, number: int) -> bytes:
    """Return x.png, x.1.png, x.2.png ..., at most 255 bytes long."""
    if number == 0:
        return name
    stem, extension = os.path.splitext(name)
    tail = b".%d" % number + extension[:64]
    return stem[: 255 - len(tail)] + tail
