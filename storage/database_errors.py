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


# By SQLSTATE or its beginning, https://www.postgresql.org/docs/current/errcodes-appendix.html
_UNREACHED: _Kind = (
    DatabaseUnavailableError,
    "cannot be reached ({said})",
    "see that its server runs and can be reached from here",
)
_REFUSED: _Kind = (
    DatabaseUnwritableError,
    "lets nobody in with this user and password ({said})",
    "check the user, and the password in ~/.pgpass, PGPASSFILE or PGPASSWORD",
)
_RAN_OUT: _Kind = (DatabaseUnavailableError, "has no room for more ({said})", "see the limits of its server")
_IN_THE_WAY: _Kind = (DatabaseBusyError, "is locked by another session", "try again when that has finished")
_STATES: dict[str, _Kind] = {
    "08": _UNREACHED,
    "57P0": _UNREACHED,  # shut down, crashed, starts up
    "28": _REFUSED,
    "3D000": (
        DatabaseMissingError,
        "is not there ({said})",
        "make it: createdb NAME, or name another with --db",
    ),
    "42501": (
        DatabaseUnwritableError,
        "refuses this user ({said})",
        "let the user own the database, or its schema",
    ),
    "3F000": (
        DatabaseUnwritableError,
        "has no schema for this user ({said})",
        "let the user own the database",
    ),
    "25006": (DatabaseUnwritableError, "can only be read", "name the server that takes rows with --db"),
    "53100": (DatabaseFullError, "cannot grow: its server's disk is full", "make room on that disk"),
    "53": _RAN_OUT,
    "57014": (
        DatabaseBusyError,
        "took too long for its server ({said})",
        "try again, or raise its statement_timeout",
    ),
    "40001": _IN_THE_WAY,
    "40P01": _IN_THE_WAY,
    "55P03": _IN_THE_WAY,
    "58": (
        DatabaseUnavailableError,
        "has trouble below its server ({said})",
        "see the server's log and its disk",
    ),
    "XX00": (
        DatabaseCorruptError,
        "is damaged ({said})",
        "see the server's log; put a backup in its place: pg_restore",
    ),
}
# Wrong data, a broken constraint, wrong SQL.
_OUR_STATES = frozenset({"21", "22", "23", "42", "25", "2D", "0A"})
# The server's words for what happens before there is a session; in another language all is "not reached".
_SAID = {
    "authentication failed": "28P01",
    "no password supplied": "28P01",
    "no pg_hba.conf entry": "28000",
    'role "': "28000",
    "starting up": "57P03",
    "shutting down": "57P03",
    "too many clients": "53300",
    "remaining connection slots": "53300",
    '" does not exist': "3D000",
}


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


def server_trouble(error: BaseException, place: str) -> StorageError | None:
    """Return an error of PostgreSQL's driver in our words; None for a fault of ours, which is shown as it is.

    The driver need not be imported: an error of its own has an SQLSTATE, or is one of the connection.
    """
    state = getattr(error, "sqlstate", None) or _state_told(error)
    if state is None:
        return None
    found = next((kind for start, kind in _STATES.items() if state.startswith(start)), None)
    if found is None and state[:2] in _OUR_STATES:
        return None
    said = printable(str(error).partition("\n")[0].removeprefix("connection failed: "))
    if found is None:
        found = (StorageError, f"cannot be used ({said})", "try again, or ask who runs the server")
    made, fact, hint = found
    return made(f"the database {printable(place)} {fact.format(said=said)}", hint=hint)


def _state_told(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error that has none: the driver has none where a session was not opened."""
    names = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("psycopg")}
    if not names & {"OperationalError", "InterfaceError"}:
        return None
    said = str(error)
    return next((state for words, state in _SAID.items() if words in said), "08000")


def _trouble(error: exc.DBAPIError | sqlite3.Error, place: str) -> StorageError | None:
    original = error.orig if isinstance(error, exc.DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    if code is None:
        return None if original is None else server_trouble(original, place)
    if code & 0xFF in _OURS:
        return None
    other = (StorageError, f"cannot be used ({original})", "try again, or see bt-daemon db check")
    made, fact, hint = _KINDS.get(code & 0xFF, other)
    return made(f"the database {printable(place)} {fact}", hint=hint)
