"""Put files into an inbox whole: written under a name that nobody takes up, on the disk, then renamed.

A file's name is a hash of its content. It tells nothing about a patient, cannot lead out of the folder, and
the same bytes sent twice find themselves there: the file is left as it is, so that no second row comes of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.errors import UsageError
from config.text import printable
from daemon.listen.refusals import OUT_OF_RESOURCES, StoreRefusedError

# Ignored by the daemon (`daemon.inbox.filters`) twice: for its dot and for its ending.
_PART = re.compile(rb"\.bt-listen-[0-9a-f]{32}\.part")
_SUFFIX = b".dcm"
# Readable for a group that daemon and listener share; the umask has the last word.
_MODE = 0o640
# How often the free space is looked at while a large object comes in, bytes.
_LOOK_EVERY = 16 << 20
_COMPARE = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Intake:
    """A folder that takes files whole and within limits, from any number of threads."""

    def __init__(self, folder: Path, *, max_bytes: int, min_free: int) -> None:
        """`max_bytes` of one file; `min_free` bytes stay free on the disk. Raises UsageError."""
        self._folder = os.fsencode(folder)
        self._max_bytes = max_bytes
        self._min_free = min_free
        self._placing = threading.Lock()
        why = "it cannot be written"
        try:
            with _opened(self._folder) as handle:
                self._device = os.fstat(handle).st_dev
                if os.access(self._folder, os.W_OK | os.X_OK):
                    return
        except OSError as error:
            why = error.strerror or str(error)
        raise UsageError(
            f"no images can be put into {printable(str(folder))} ({why})",
            hint="name the folder that bt-daemon watches",
        )

    def begin(self) -> PartFile:
        """Begin a file; raise StoreRefusedError or OSError if there is no place for one."""
        folder = os.open(self._folder, _FOLDER)
        try:
            if os.fstat(folder).st_dev != self._device:
                # Unmounted: what is written into the empty mount point would vanish with the mount's return.
                raise StoreRefusedError(
                    OUT_OF_RESOURCES, "the inbox is not the disk that it was at the start"
                )
            self.check_room(folder)
            return PartFile(self, folder)
        except BaseException:
            os.close(folder)
            raise

    def check_size(self, size: int) -> None:
        """Raise StoreRefusedError if a file of so many bytes is too large."""
        if size > self._max_bytes:
            raise StoreRefusedError(OUT_OF_RESOURCES, f"larger than the limit of {self._max_bytes} bytes")

    def check_room(self, folder: int) -> None:
        """Raise StoreRefusedError if less than the wanted space is free."""
        found = os.fstatvfs(folder)
        if found.f_bavail * found.f_frsize < self._min_free:
            raise StoreRefusedError(
                OUT_OF_RESOURCES, f"less than {self._min_free} bytes are free in the inbox"
            )

    def place(self, part: PartFile, name: bytes) -> bool:
        """Give a file its name; False if one of the same name and content is there already."""
        with self._placing:
            if _holds(part.folder, name, part.handle):
                os.unlink(part.name, dir_fd=part.folder)
                return False
            os.rename(part.name, name, src_dir_fd=part.folder, dst_dir_fd=part.folder)
            return True

    def remove_leftovers(self) -> int:
        """Remove what listeners that were killed left half-written here; return how many files."""
        removed = 0
        with _opened(self._folder) as folder:
            for name in map(os.fsencode, os.listdir(folder)):
                if _PART.fullmatch(name):
                    with contextlib.suppress(OSError):  # another listener's that lives, or gone
                        removed += _removed_if_dead(folder, name)
        return removed


class PartFile:
    """A file in the making. Whoever makes it holds a lock on it, so that others know it is alive."""

    def __init__(self, intake: Intake, folder: int) -> None:
        """Take over the folder's handle; raises OSError."""
        self._intake = intake
        self._hash = hashlib.sha256()
        self._size = 0
        self._next_look = _LOOK_EVERY
        self.folder = folder
        self.name = b".bt-listen-%s.part" % secrets.token_hex(16).encode()
        self.handle = os.open(self.name, _CREATE, _MODE, dir_fd=folder)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, data: bytes) -> None:
        """Append bytes; raise StoreRefusedError beyond a limit, OSError for the disk's own."""
        self._intake.check_size(self._size + len(data))
        if self._size >= self._next_look:
            self._intake.check_room(self.folder)
            self._next_look = self._size + _LOOK_EVERY
        view = memoryview(data)
        while view:
            view = view[os.write(self.handle, view) :]
        self._hash.update(data)
        self._size += len(data)

    def place(self) -> bool:
        """Return when the file is on the disk under its own name; False if it was there before.

        Raises OSError; then it may be there or not, and whoever sent it has to send it again.
        """
        os.fsync(self.handle)
        is_new = self._intake.place(self, self._hash.hexdigest()[:32].encode() + _SUFFIX)
        os.fsync(self.folder)
        self._close()
        return is_new

    def discard(self) -> None:
        """Leave nothing behind; after `place` it does nothing."""
        if self.handle >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self.name, dir_fd=self.folder)
            self._close()

    def _close(self) -> None:
        os.close(self.handle)
        os.close(self.folder)
        self.handle = self.folder = -1


@contextmanager
def _opened(folder: bytes) -> Iterator[int]:
    handle = os.open(folder, _FOLDER)
    try:
        yield handle
    finally:
        os.close(handle)


def _holds(folder: int, name: bytes, part: int) -> bool:
    """Tell whether the folder has a regular file of that name with a part's content, on the disk."""
    try:
        handle = os.open(name, _READ, dir_fd=folder)
    except OSError:
        return False  # none, or no regular file: the rename replaces it or says why not
    try:
        found, size = os.fstat(handle), os.fstat(part).st_size
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
        for begin in range(0, size, _COMPARE):
            if os.pread(handle, _COMPARE, begin) != os.pread(part, _COMPARE, begin):
                return False
        os.fsync(handle)
        return True
    finally:
        os.close(handle)


def _removed_if_dead(folder: int, name: bytes) -> bool:
    """Remove a part that nobody holds; raise OSError (BlockingIOError) for one that is being written."""
    handle = os.open(name, _READ, dir_fd=folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=folder)
        return True
    finally:
        os.close(handle)
