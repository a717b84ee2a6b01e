"""One daemon per database: a lock file beside it that holds the owner's pid.

The lock is the kernel's (flock), so it is gone with its owner however that one ended; the pid in
the file is only there to be read.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from config.errors import UsageError
from config.text import printable


class DatabaseLock:
    """Held from `__enter__` to `__exit__`; a second holder is refused with UsageError."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        self._database = database
        self._handle = -1

    def __enter__(self) -> DatabaseLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._handle, 32, 0).decode("ascii", "replace").strip()
            os.close(self._handle)
            shown = printable(str(self._database))
            raise UsageError(
                f"a daemon (pid {printable(owner) or '?'}) already writes to {shown}",
                hint="stop it, name all inboxes in one watch command, or give this one another --db",
            ) from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file stays: removing it would let a third process lock a new file of the same name
        # while a second still holds the old one.
        os.ftruncate(self._handle, 0)
        os.close(self._handle)
        self._handle = -1


def lock_owner(database: Path) -> int | None:
    """Return the pid of the daemon that holds the database's lock, None if there is none."""
    path = database.with_name(database.name + ".lock")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        digits = os.pread(handle, 32, 0).strip()
        return int(digits) if digits.isdigit() else None
    else:
        return None
    finally:
        os.close(handle)
