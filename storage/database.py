"""Open a database: one writer, any number of readers, and clear words when it cannot be.

A database is a file (SQLite) or lies on a server (PostgreSQL); what differs is in `storage.backend`.
"""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from config.database_url import is_server_url, without_password
from config.errors import UsageError
from config.text import printable
from storage.backend.backend import BUSY_SECONDS, Backend, backend_of
from storage.backend.sqlite import SqliteBackend, connect_read_only, prepare_file
from storage.backend.transactions import reading, writing

__all__ = [
    "BUSY_SECONDS",
    "Target",
    "backend_for",
    "close_whole",
    "connect_read_only",
    "database_path",
    "open_beside",
    "open_reader",
    "open_writer",
    "prepare_file",
    "reading",
    "shown_place",
    "stand_in",
    "writing",
]

Target = str | os.PathLike[str]  # a file, or a URL: sqlite:///... or postgresql://...


def open_writer(
    target: Target, *, busy_seconds: float = BUSY_SECONDS, checkpoints: bool = True, sole: bool = False
) -> sa.Connection:
    """Open the database for writing; it is made, or migrated, if need be.

    The connection belongs to one thread; close it to release the database. Only one process, the daemon,
    should write with `checkpoints`: SQLite before 3.51.3 can corrupt a database when two checkpoint at
    once (https://www.sqlite.org/wal.html#walresetbug). With `sole` a server keeps other daemons out for as
    long as it is open (UsageError if one is there); for a file its `DatabaseLock` does.
    Raises DatabaseError (exit 3) when the place is locked, full, unwritable, not reached, damaged, from a
    newer version, or on a network file system.
    """
    return backend_for(target).open_writer(busy_seconds, checkpoints=checkpoints, sole=sole)


def open_reader(target: Target, *, busy_seconds: float = BUSY_SECONDS) -> sa.Connection:
    """Open the database for reading only; works while the daemon writes, and never blocks it.

    Raises DatabaseError (exit 3) when there is none yet, or it is not one this version can read.
    """
    return backend_for(target).open_reader(busy_seconds)


def open_beside(target: Target, *, busy_seconds: float = BUSY_SECONDS) -> sa.Connection:
    """Open a database that is there for a few short transactions; raise DatabaseError as `open_reader`.

    In a file they do not wait for the disk while they hold the lock, so that the daemon does not wait for
    them: flush the log after each, before anyone is told. A process that reads the database may do so too.
    """
    return backend_for(target).open_beside(busy_seconds)


def close_whole(connection: sa.Connection, *, lost: Path | None = None) -> None:
    """Close a writer and leave all that was committed in the one file, if the disk and readers let it.

    SQLite does so by itself only where no other connection is open; one that is idle need not hinder it.
    `lost` is the path if another file lies there now: then the open files alone are written to, and
    SQLite, which compares them as well, removes nothing by name.
    """
    if not connection.closed:
        backend_of(connection).close_whole(connection, lost)


def backend_for(target: Target) -> Backend:
    """Return what opens the database that a path or URL names; raise UsageError for other kinds."""
    text = os.fspath(target)
    if is_server_url(text):
        from storage.backend.postgresql import PostgresqlBackend

        return PostgresqlBackend(text)
    return SqliteBackend(database_path(target))


def stand_in(target: Target) -> Path:
    """Return the path that what lies beside a database (models, locks) is named after.

    It is the file itself; of a database on a server a name in the user's data folder.
    """
    return backend_for(target).stand_in


def shown_place(target: Target) -> str:
    """Return where the database is, for people: an absolute path, or an address without a password."""
    if is_server_url(os.fspath(target)):
        return without_password(os.fspath(target))
    return str(database_path(target).absolute())


def database_path(target: Target) -> Path:
    """Return the file that a path or an sqlite:/// URL names; raise UsageError for other databases."""
    text = os.fspath(target)
    if "://" not in text:
        return Path(text).expanduser()
    if is_server_url(text):
        raise UsageError("the database lies on a server, this works on a file", hint="give --db a file")
    scheme = text.partition("://")[0]
    if scheme.partition("+")[0] != "sqlite":
        raise UsageError(
            f"databases of the kind {printable(scheme)} are not supported",
            hint="name a file, or a URL: sqlite:////home/me/results.db or postgresql://HOST/DATABASE",
        )
    url = sa.make_url(text)
    if not url.database or url.database == ":memory:":
        raise UsageError("the database URL names no file", hint="write sqlite:////home/me/results.db")
    return Path(url.database)
