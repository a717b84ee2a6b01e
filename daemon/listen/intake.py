"""Put files into an inbox whole: written under a name that nobody takes up, on the disk, then renamed.

A file's name is a hash of its content. It tells nothing about a patient, cannot lead out of the folder, and
the same bytes sent twice find themselves there: the file is left as it is, so that no second row comes of it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from config.errors import UsageError
from config.text import printable
from daemon.listen.refusals import OUT_OF_RESOURCES, StoreRefusedError
from daemon.part_files import HiddenPart, holds, open_folder, opened_folder, remove_leftovers

_PREFIX = b".bt-listen-"
_SUFFIX = b".dcm"
# How often the free space is looked at while a large object comes in, bytes.
_LOOK_EVERY = 16 << 20


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
            with opened_folder(self._folder) as handle:
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
        folder = open_folder(self._folder)
        try:
            if os.fstat(folder).st_dev != self._device:
                # Unmounted: what is written into the empty mount point would vanish with the mount's return.
                raise StoreRefusedError(
                    OUT_OF_RESOURCES, "the inbox is not the disk that it was at the start"
                )
            self.check_room(folder)
        except BaseException:
            os.close(folder)
            raise
        return PartFile(self, folder)

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
            if holds(part.folder, name, part.handle):
                os.unlink(part.name, dir_fd=part.folder)
                return False
            part.replace(name)
            return True

    def remove_leftovers(self) -> int:
        """Remove what listeners that were killed left half-written here; return how many files."""
        return remove_leftovers(self._folder, _PREFIX)


class PartFile(HiddenPart):
    """A file in the making, within an intake's limits, that will be named by its content."""

    def __init__(self, intake: Intake, folder: int) -> None:
        """Take over the folder's handle; raises OSError."""
        super().__init__(folder, _PREFIX)
        self._intake = intake
        self._hash = hashlib.sha256()
        self._next_look = _LOOK_EVERY

    def write(self, data: bytes) -> None:
        """Append bytes; raise StoreRefusedError beyond a limit, OSError for the disk's own."""
        self._intake.check_size(self.size + len(data))
        if self.size >= self._next_look:
            self._intake.check_room(self.folder)
            self._next_look = self.size + _LOOK_EVERY
        super().write(data)
        self._hash.update(data)

    def place(self) -> bool:
        """Return when the file is on the disk under its own name; False if it was there before.

        Raises OSError; then it may be there or not, and whoever sent it has to send it again.
        """
        self.sync()
        is_new = self._intake.place(self, self._hash.hexdigest()[:32].encode() + _SUFFIX)
        os.fsync(self.folder)
        self.close()
        return is_new
