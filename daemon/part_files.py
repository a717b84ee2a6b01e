"""Part files: written under a hidden name that nobody takes up, on the disk, then named at once and whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Readable for a group that daemon and writer share; the umask has the last word.
_MODE = 0o640
_COMPARE = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# What file systems without hard links answer: FAT, many network and user-space ones.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class HiddenPart:
    """A file in the making. Whoever makes it holds a lock on it, so that others know it is alive."""

    def __init__(self, folder: int, prefix: bytes) -> None:
        """Take over the folder's handle, also if it fails; raises OSError."""
        self.folder = folder
        self.size = 0  # bytes written
        # Ignored by the daemon (`daemon.inbox.filters`) twice: for its dot and for its ending.
        self.name = b"%s%s.part" % (prefix, secrets.token_hex(16).encode())
        try:
            self.handle = os.open(self.name, _CREATE, _MODE, dir_fd=folder)
        except BaseException:
            os.close(folder)
            raise
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its writer's thread and one that ends it may let it go at once: each handle is closed once.
        self._closing = threading.Lock()

    def write(self, data: bytes) -> None:
        """Append bytes; raises OSError."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.handle, view) :]
        self.size += len(data)

    def sync(self) -> None:
        """Return when all that was written is on the disk; raises OSError."""
        os.fsync(self.handle)

    def replace(self, name: bytes) -> None:
        """Take a name, from whatever file has it; raises OSError."""
        os.rename(self.name, name, src_dir_fd=self.folder, dst_dir_fd=self.folder)

    def take_free(self, name: bytes) -> bool:
        """Take a name if nothing has it, False if something does; raises OSError."""
        try:
            os.link(self.name, name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._take_by_placeholder(name)
        os.unlink(self.name, dir_fd=self.folder)
        return True

    def discard(self) -> None:
        """Leave nothing behind; does nothing once it is closed."""
        if self.handle >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self.name, dir_fd=self.folder)
            self.close()

    def close(self) -> None:
        """Let the file, and the lock on it, go; does nothing the second time."""
        with self._closing:
            handle, folder = self.handle, self.folder
            self.handle = self.folder = -1
        if handle >= 0:
            os.close(handle)
            os.close(folder)

    def _take_by_placeholder(self, name: bytes) -> bool:
        """Do the same where there are no links: an empty file holds the name until the rename."""
        try:
            os.close(os.open(name, _CREATE, _MODE, dir_fd=self.folder))
        except FileExistsError:
            return False
        self.replace(name)
        return True


@contextmanager
def opened_folder(folder: bytes) -> Iterator[int]:
    """Return a folder's handle; raises OSError."""
    handle = os.open(folder, _FOLDER)
    try:
        yield handle
    finally:
        os.close(handle)


def open_folder(folder: bytes) -> int:
    """Return a folder's handle for a part to take over; raises OSError."""
    return os.open(folder, _FOLDER)


def holds(folder: int, name: bytes, part: int) -> bool:
    """Tell whether the folder has a regular file of that name with a part's content, on the disk."""
    try:
        handle = os.open(name, _READ, dir_fd=folder)
    except OSError:
        return False  # none, or no regular file: taking the name replaces it or says why not
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


def remove_leftovers(folder: bytes, prefix: bytes) -> int:
    """Remove the parts of that prefix whose writers were killed; return how many. Raises OSError."""
    ours = re.compile(re.escape(prefix) + rb"[0-9a-f]{32}\.part")
    removed = 0
    with opened_folder(folder) as handle:
        for name in map(os.fsencode, os.listdir(handle)):
            if ours.fullmatch(name):
                with contextlib.suppress(OSError):  # another writer's that lives, or gone
                    removed += _removed_if_dead(handle, name)
    return removed


def _removed_if_dead(folder: int, name: bytes) -> bool:
    """Remove a part that nobody holds; raise OSError (BlockingIOError) for one that is being written."""
    handle = os.open(name, _READ, dir_fd=folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=folder)
        return True
    finally:
        os.close(handle)
