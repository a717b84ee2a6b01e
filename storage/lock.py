"""One daemon per database: a lock file beside it with its pid, its trouble and when it turned last.

Of a database on a server the session that writes holds the lock instead (`storage.backend.postgresql`).

The lock of a file is the kernel's (flock), so it is gone with its owner however that one ended; what is
in the file is only there to be read. It goes with the database's real path, and the database file itself
is locked too: neither a symbolic link nor a second name of the file lets a second daemon in.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

from config.database_url import is_server_url
from config.errors import UsageError
from config.text import printable
from storage.backend.backend import ONE_DAEMON_HINT
from storage.database import Target, database_path, prepare_file
from storage.database_errors import DatabaseUnwritableError
from storage.file_identity import check_identity

# Written in full at the start and then overwritten in place: on a full disk it can still be changed.
_ROOM = 512
# A reader that asks for the owner holds the lock for microseconds; no daemon may fail for that.
_PATIENCE_SECONDS = 0.5
_STEP_SECONDS = 0.01


class LockHolder(NamedTuple):
    """Who holds a database's lock, in its own words."""

    pid: int | None  # None: nobody; 0: somebody whom a server does not show to us
    trouble: str = ""  # what holds it up, '' for nothing
    turned_us: int | None = None  # when its loop last turned, microseconds since the epoch; None: not told


class DaemonLock(Protocol):
    """What a daemon holds for as long as it works on a database."""

    def check(self) -> None:
        """Raise DatabaseLostError if what is written now would reach nobody."""

    def tell(self, trouble: str, turned_us: int | None = None) -> None:
        """Say what holds the daemon up, '' for nothing, and when its loop turned."""


class ServerLock:
    """The lock on a server's database: the writing session's own, see `open_writer(sole=True)`."""

    def check(self) -> None:
        """Do nothing: a session that was lost is noticed by the next transaction."""

    def tell(self, trouble: str, turned_us: int | None = None) -> None:
        """Do nothing: the server tells when a session was last active, and keeps its own log of trouble."""


def daemon_lock(target: Target) -> AbstractContextManager[DaemonLock]:
    """Return the lock of a daemon on the database that a path or URL names."""
    if is_server_url(os.fspath(target)):
        return nullcontext(ServerLock())
    return DatabaseLock(database_path(target))


class DatabaseLock:
    """Held from `__enter__` to `__exit__`; a second holder is refused with UsageError.

    An empty database is made if there is none. Raises DatabaseError where there can be no database.
    """

    def __init__(
        self,
        database: Path,
        *,
        hint: str = ONE_DAEMON_HINT,
        make: bool = True,
    ) -> None:
        """`hint` is the next step for whoever is refused; without `make` there need be no database."""
        self.path = _lock_path(database)
        self._database = database
        self._hint = hint
        self._make = make
        self._handle = self._file = -1
        self._trouble = ""
        self._turned_us: int | None = None

    def __enter__(self) -> DatabaseLock:
        if self._make:
            prepare_file(self._database)
        try:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self._take(self._handle)
            with contextlib.suppress(FileNotFoundError):
                self._file = os.open(self._database, os.O_RDONLY | os.O_CLOEXEC)
                self._take(self._file)
            self._write()
        except OSError as error:
            self._release()
            raise DatabaseUnwritableError(
                f"the database {printable(str(self._database))} cannot be locked ({error.strerror})",
                hint="check the path and its permissions, or give another --db",
            ) from error
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file stays: removing it would let a third process lock a new file of the same name
        # while a second still holds the old one.
        os.ftruncate(self._handle, 0)
        self._release()

    def check(self) -> None:
        """Raise DatabaseLostError if another file, or none, lies at the database's path now."""
        if self._file >= 0:
            check_identity(self._database, self._file)

    def tell(self, trouble: str, turned_us: int | None = None) -> None:
        """Say what holds the daemon up, '' for nothing, and when its loop turned; same words cost nothing.

        A database that takes no rows takes no heartbeat either: this is then the sign of life.
        """
        if (trouble, turned_us) != (self._trouble, self._turned_us):
            self._trouble, self._turned_us = trouble, turned_us
            with contextlib.suppress(OSError):
                self._write()

    def _take(self, handle: int) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(_STEP_SECONDS)
                    continue
                raise self._refusal() from None
            return

    def _refusal(self) -> UsageError:
        pid = _read(self._handle).pid
        shown = printable(str(self._database))
        return UsageError(f"a daemon (pid {pid or '?'}) already writes to {shown}", hint=self._hint)

    def _write(self) -> None:
        turned = "" if self._turned_us is None else self._turned_us
        told = f"{os.getpid()} {turned}\n{printable(self._trouble)}".encode()[: _ROOM - 1]
        os.pwrite(self._handle, told.ljust(_ROOM - 1) + b"\n", 0)

    def _release(self) -> None:
        for handle in (self._file, self._handle):
            if handle >= 0:
                os.close(handle)
        self._handle = self._file = -1


def lock_owner(database: Target) -> int | None:
    """Return the pid of the daemon that holds the database's lock, None if there is none."""
    return lock_holder(database).pid


def lock_holder(database: Target) -> LockHolder:
    """Return the daemon that holds the database's lock and what it says of itself.

    Raises DatabaseError for a server that is not reached.
    """
    if is_server_url(os.fspath(database)):
        return _session_holder(database)
    try:
        handle = os.open(_lock_path(database_path(database)), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return LockHolder(None)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(handle)
    else:
        return LockHolder(None)
    finally:
        os.close(handle)


def _session_holder(database: Target) -> LockHolder:
    from storage.backend.postgresql import PostgresqlBackend

    holder = PostgresqlBackend(os.fspath(database)).holder()
    return LockHolder(None) if holder is None else LockHolder(holder.pid or 0, "", holder.active_us)


def _lock_path(database: Path) -> Path:
    real = os.path.realpath(database)
    return Path(real + ".lock")


def _read(handle: int) -> LockHolder:
    first, _, rest = os.pread(handle, _ROOM, 0).partition(b"\n")
    pid, turned = ([int(word) if word.isdigit() else None for word in first.split()] + [None, None])[:2]
    return LockHolder(pid, rest.decode("utf-8", "replace").strip(), turned)
