"""Database errors, and whether waiting helps."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from config.errors import DatabaseError
from config.text import printable


class StorageError(DatabaseError):
    """The base of what follows; `transient` says that the same call may succeed later, unchanged."""

    transient = False


class DatabaseBusyError(StorageError):
    """Another process holds the write lock."""

    transient = True


class DatabaseFullError(StorageError):
    """The disk (or a quota, or a page limit) is full."""

    transient = True


class DatabaseUnavailableError(StorageError):
    """Reading, writing or flushing failed below SQLite; what was not acknowledged may yet have persisted."""

    transient = True


class DatabaseUnwritableError(StorageError):
    """The file or its folder does not let us in."""


class DatabaseCorruptError(StorageError):
    """The file is not a database, or not a sound one."""


class DatabaseMissingError(StorageError):
    """There is no database at that place yet."""


class DatabaseLostError(StorageError):
    """The file was deleted or replaced while it was open: what is written now would reach nobody."""


class DatabaseTooNewError(StorageError):
    """A newer version of this program has made or upgraded the database."""


class DatabaseTooOldError(StorageError):
    """The database waits for its migration, and the caller may only read."""


class DatabaseOnNetworkError(StorageError):
    """The place is on a network file system, where write-ahead logging is not safe."""


# By SQLite's primary result code, https://www.sqlite.org/rescode.html
_Kind = tuple[type[StorageError], str, str]
_LOCKED: _Kind = (DatabaseBusyError, "is locked by another process", "try again when that has finished")
_UNWRITABLE: _Kind = (
    DatabaseUnwritableError,
    "cannot be opened or written",
    "check its path and permissions",
)
_KINDS: dict[int, _Kind] = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,  # the log's own locks, held by another for too long
    sqlite3.SQLITE_FULL: (DatabaseFullError, "cannot grow: the disk is full", "make room on that disk"),
    sqlite3.SQLITE_IOERR: (
        DatabaseUnavailableError,
        "could not be read or written (input/output error)",
        "check the disk and its free space",
    ),
    sqlite3.SQLITE_NOMEM: (DatabaseUnavailableError, "ran out of memory", "close other programs"),
    sqlite3.SQLITE_READONLY: _UNWRITABLE,
    sqlite3.SQLITE_PERM: _UNWRITABLE,
    sqlite3.SQLITE_CANTOPEN: _UNWRITABLE,
    sqlite3.SQLITE_AUTH: _UNWRITABLE,
    sqlite3.SQLITE_CORRUPT: (
        DatabaseCorruptError,
        "is damaged",
        "stop the daemon and put a backup in its place: bt-daemon db restore FILE",
    ),
    sqlite3.SQLITE_NOTADB: (
        DatabaseCorruptError,
        "is not a database",
        "give another --db, or move the file away",
    ),
}


# Wrong SQL, a broken constraint: these are bugs and are shown as such.
_OURS = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
    }
)


@contextmanager
def database_errors(place: str, is_sound: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turn what SQLAlchemy and sqlite3 raise into a StorageError that names `place`.

    SQLite calls a file damaged after one read that failed: `is_sound` then looks at it anew, and if it is
    sound the error is a passing one.
    Faults of ours (wrong SQL, a broken constraint) pass unchanged: they are bugs, not trouble.
    """
    try:
        yield
    except (exc.DBAPIError, sqlite3.Error) as error:
        trouble = _trouble(error, place)
        if trouble is None:
            raise
        if isinstance(trouble, DatabaseCorruptError) and is_sound():
            trouble = DatabaseUnavailableError(
                f"a page of the database {printable(place)} could not be read, a second look found it sound",
                hint="try again, and check the disk if it comes back",
            )
        raise trouble from error


def _trouble(error: exc.DBAPIError | sqlite3.Error, place: str) -> StorageError | None:
    original = error.orig if isinstance(error, exc.DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    if code is None:
        return None
    if code & 0xFF in _OURS:
        return None
    other = (StorageError, f"cannot be used ({original})", "try again, or see bt-daemon db check")
    made, fact, hint = _KINDS.get(code & 0xFF, other)
    return made(f"the database {printable(place)} {fact}", hint=hint)
