"""Open a database: one writer, any number of readers, and clear words when it cannot be.

All that holds for SQLite alone (pragmas, file modes, how a transaction begins) stands here.

Durability: write-ahead log with synchronous=FULL. With NORMAL a power cut could take back the last
commits; but a committed row may have been read, reported, or its file moved away, so each commit
is flushed. That is one flush per turn of the daemon, not per image.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from config.errors import UsageError
from config.filesystem import filesystem_of, is_network_filesystem
from config.paths import default_database
from config.text import printable
from storage.database_copy import copy_database
from storage.database_errors import (
    DatabaseCorruptError,
    DatabaseMissingError,
    DatabaseOnNetworkError,
    DatabaseTooNewError,
    DatabaseTooOldError,
    DatabaseUnwritableError,
    database_errors,
)
from storage.file_identity import withdraw_log
from storage.schema import REVISION, create

# Short: the daemon has its own patience (it keeps the turn and tries again), a command may be told.
BUSY_SECONDS = 5.0

# Patient data: nobody else may read it. SQLite gives the -wal and -shm files the mode of the database.
FILE_MODE = 0o600

_WRITER_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    # No mmap: with it a disk error is a SIGBUS and not an error code.
    "PRAGMA cache_size = -32000",
    # After a burst the log shrinks back instead of keeping its largest size for good.
    "PRAGMA journal_size_limit = 67108864",
)
_BESIDE_PRAGMAS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    # The caller flushes the log, and the daemon alone checkpoints it.
    "PRAGMA synchronous = NORMAL",
    "PRAGMA wal_autocheckpoint = 0",
)
_READER_PRAGMAS = ("PRAGMA query_only = ON", "PRAGMA temp_store = MEMORY", "PRAGMA cache_size = -32000")


def open_writer(
    target: str | os.PathLike[str], *, busy_seconds: float = BUSY_SECONDS, checkpoints: bool = True
) -> sa.Connection:
    """Open the database for writing; it is made, or migrated, if need be.

    `target` is a file or a URL (sqlite:///...). The connection belongs to one thread; close it to
    release the file. Only one process, the daemon, should write with `checkpoints`: SQLite before
    3.51.3 can corrupt a database when two checkpoint at once (https://www.sqlite.org/wal.html#walresetbug).
    Raises DatabaseError (exit 3) when the place is locked, full, unwritable, damaged, from a newer
    version, or on a network file system.
    """
    path = database_path(target)
    with database_errors(str(path)):
        prepare_file(path)
        engine = _engine(
            lambda: sqlite3.connect(path, timeout=busy_seconds, isolation_level=None), begin="BEGIN IMMEDIATE"
        )
        connection = engine.connect()
        try:
            _apply(connection, _WRITER_PRAGMAS)
            if not checkpoints:
                _apply(connection, ("PRAGMA wal_autocheckpoint = 0",))
            migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def open_reader(target: str | os.PathLike[str], *, busy_seconds: float = BUSY_SECONDS) -> sa.Connection:
    """Open the database for reading only; works while the daemon writes, and never blocks it.

    Raises DatabaseError (exit 3) when there is none yet, or it is not one this version can read.
    """
    return _open_known(target, busy_seconds, "ro", _READER_PRAGMAS)


def open_beside(target: str | os.PathLike[str], *, busy_seconds: float = BUSY_SECONDS) -> sa.Connection:
    """Open a database that is there for a few short transactions; raise DatabaseError as `open_reader`.

    They do not wait for the disk while they hold the lock, so that the daemon does not wait for them: flush
    the log after each, before anyone is told. A process that reads the database may do so too.
    """
    return _open_known(target, busy_seconds, "rw", _BESIDE_PRAGMAS)


def close_whole(connection: sa.Connection, *, lost: Path | None = None) -> None:
    """Close a writer and leave all that was committed in the one file, if the disk and readers let it.

    SQLite does so by itself only where no other connection is open; one that is idle need not hinder it.
    `lost` is the path if another file lies there now: then the open files alone are written to, and
    SQLite, which compares them as well, removes nothing by name.
    """
    if connection.closed:
        return
    with contextlib.suppress(sqlite3.Error, sa.exc.SQLAlchemyError):
        _apply(connection, ("PRAGMA wal_checkpoint(TRUNCATE)",))
    if lost is not None:
        withdraw_log(lost)
    connection.close()


def connect_read_only(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """Return a bare connection that cannot write; SQLite alone, no SQLAlchemy needed by the caller."""
    return _connect(path, busy_seconds, "ro")


def _connect(path: Path, busy_seconds: float, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode={mode}", uri=True, timeout=busy_seconds, isolation_level=None
    )


def database_path(target: str | os.PathLike[str]) -> Path:
    """Return the file that a path or an sqlite:/// URL names; raise UsageError for other databases."""
    text = os.fspath(target)
    if "://" not in text:
        return Path(text).expanduser()
    url = sa.make_url(text)
    if url.get_backend_name() != "sqlite":
        raise UsageError(
            f"databases of the kind {printable(url.get_backend_name())} are not supported yet",
            hint="name a file, or a URL such as sqlite:////home/me/results.db",
        )
    if not url.database or url.database == ":memory:":
        raise UsageError("the database URL names no file", hint="write sqlite:////home/me/results.db")
    return Path(url.database)


@contextmanager
def writing(connection: sa.Connection) -> Iterator[None]:
    """One transaction: all of it is committed at the end, or none of it after any exception."""
    with _errors(connection):
        transaction = connection.begin()
        try:
            yield
            transaction.commit()
        except BaseException:
            _roll_back(connection, transaction)
            raise


@contextmanager
def reading(connection: sa.Connection) -> Iterator[None]:
    """One consistent view of the database, released at the end; no write lock is taken.

    Within another `reading` or `writing` of the same connection it joins that one.
    """
    if connection.in_transaction():
        with _errors(connection):
            yield
        return
    info = connection.info  # taken now: the connection may be closed before an iterator in here is
    info["begin"] = "BEGIN"
    try:
        with _errors(connection):
            transaction = connection.begin()
            try:
                yield
            finally:
                _roll_back(connection, transaction)
    finally:
        info.pop("begin", None)


def migrate(connection: sa.Connection, path: Path) -> None:
    """Bring the schema to this version's revision, with a copy of the database of before beside it.

    Alembic is imported for an older database only. Without room for the copy nothing is changed.
    """
    with reading(connection):
        stored = stored_revision(connection)
    if stored == REVISION:
        return
    with writing(connection):
        stored = stored_revision(connection)  # another process may have come first
        check_revision(stored, path)
        if stored is None:
            create(connection)
        elif stored != REVISION:
            from storage.migrations import upgrade

            _keep_before(path)
            upgrade(connection)


def free_backup_name(path: Path) -> Path:
    """Return where the copy of before a migration goes: results.db.before-0004, or with a number behind."""
    for number in itertools.count():
        place = path.with_name(f"{path.name}.before-{REVISION}{f'-{number}' if number else ''}")
        if not place.exists():
            return place
    raise AssertionError


def _keep_before(path: Path) -> None:
    """Copy the database while the caller holds the write lock."""
    place = free_backup_name(path)
    try:
        with contextlib.closing(connect_read_only(path, BUSY_SECONDS)) as source:
            copy_database(source, place)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseUnwritableError(
            f"the database {printable(str(path))} is not migrated: no backup could be made beside it "
            f"({printable(getattr(error, 'strerror', '') or str(error))})",
            hint="make room on the disk, or let its folder be written",
        ) from error


def stored_revision(connection: sa.Connection) -> str | None:
    """Return the schema revision the database is at, None if it has no schema of ours yet."""
    names = connection.exec_driver_sql("SELECT count(*), sum(name = 'alembic_version') FROM sqlite_master")
    tables, versioned = names.one()
    if not versioned:
        if tables:
            raise DatabaseCorruptError(
                f"{_place(connection)} is a database of another program", hint="give another --db"
            )
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    return None if found is None else str(found)


def _open_known(
    target: str | os.PathLike[str], busy_seconds: float, mode: str, pragmas: tuple[str, ...]
) -> sa.Connection:
    """Open a database of this version that is there, by SQLite's own means alone."""
    path = database_path(target)
    if not _is_there(path):
        raise DatabaseMissingError(
            f"there is no database at {printable(str(path))} yet",
            hint="start `bt-daemon watch DIR` first, or name one with --db",
        )
    with database_errors(str(path)):
        begin = "BEGIN" if mode == "ro" else "BEGIN IMMEDIATE"
        connection = _engine(lambda: _connect(path, busy_seconds, mode), begin=begin).connect()
        try:
            _apply(connection, pragmas)
            with reading(connection):
                _let_in(stored_revision(connection), path)
        except BaseException:
            connection.close()
            raise
    return connection


def _let_in(stored: str | None, path: Path) -> None:
    """Let a reader in only if the tables are the ones this version knows."""
    if stored == REVISION:
        return
    check_revision(stored, path)
    if stored is None:
        raise DatabaseMissingError(
            f"the database {printable(str(path))} is still empty", hint="start `bt-daemon watch DIR` first"
        )
    raise DatabaseTooOldError(
        f"the database {printable(str(path))} has schema {printable(stored)}, this version needs {REVISION}",
        hint="run `bt-daemon db migrate`, or restart the daemon, which does it",
    )


def check_revision(stored: str | None, path: Path) -> None:
    """Raise DatabaseTooNewError for the revision of a newer version."""
    # Revisions are numbers with leading zeros, so they compare as text.
    if stored is not None and stored > REVISION:
        raise DatabaseTooNewError(
            f"the database {printable(str(path))} has schema {printable(stored)}, "
            f"newer than this version's {REVISION}",
            hint="upgrade bt-daemon",
        )


def _engine(connect: Any, begin: str) -> sa.Engine:
    """Return an engine whose one connection is opened by `connect` and closed for good on close."""
    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool)

    # sqlite3's own rules would start no transaction before a SELECT or before DDL; so it is told not
    # to (isolation_level=None), and each transaction begins here, visibly.
    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.info.get("begin", begin))

    return engine


def prepare_file(path: Path) -> None:
    """Make an empty database if there is none, for its owner only, and its folder if that is the usual one.

    Raises DatabaseError when the place cannot hold one. Not for a process that has the database open:
    closing any handle of a file takes away the locks that SQLite has on it.
    """
    kind = filesystem_of(path)
    if is_network_filesystem(kind):
        raise DatabaseOnNetworkError(
            f"the database {printable(str(path))} would lie on a network file system ({printable(kind)}), "
            "where SQLite's write-ahead log is not safe",
            hint="give --db a file on a local disk; the images may stay where they are",
        )
    try:
        if path.parent == default_database().parent:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        os.close(handle)
    except OSError as error:
        raise DatabaseUnwritableError(
            f"the database {printable(str(path))} cannot be opened ({error.strerror})",
            hint=_hint_for(path, error),
        ) from error


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise DatabaseUnwritableError(
            f"the database {printable(str(path))} cannot be opened ({error.strerror})",
            hint=_hint_for(path, error),
        ) from error
    return True


def _hint_for(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and not path.parent.exists():
        return f"make its folder (mkdir -p {printable(str(path.parent))}) or give another --db"
    return "check the path and its permissions, or give another --db"


def _apply(connection: sa.Connection, pragmas: tuple[str, ...]) -> None:
    # Outside any transaction, hence past SQLAlchemy: WAL cannot be switched on within one.
    driver = connection.connection.driver_connection
    assert driver is not None
    for pragma in pragmas:
        driver.execute(pragma).close()


def _roll_back(connection: sa.Connection, transaction: sa.RootTransaction) -> None:
    """Undo, whatever state a failed commit left the connection in; the first error is the one that counts."""
    if connection.closed:  # an iterator over rows that outlived its connection
        return
    try:
        transaction.rollback()
    except (sa.exc.SQLAlchemyError, sqlite3.Error):
        driver = connection.connection.driver_connection
        if driver is not None and driver.in_transaction:
            driver.rollback()


def _errors(connection: sa.Connection) -> AbstractContextManager[None]:
    place = _place(connection)
    return database_errors(place, lambda: _is_sound(connection, place))


def _is_sound(connection: sa.Connection, place: str) -> bool:
    """Look at the whole file through a connection of its own; of this one forget what was read wrongly."""
    with contextlib.suppress(sqlite3.Error, sa.exc.SQLAlchemyError):
        _apply(connection, ("PRAGMA shrink_memory",))
    try:
        with contextlib.closing(connect_read_only(Path(place), BUSY_SECONDS)) as fresh:
            return bool(fresh.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error:
        return False


def _place(connection: sa.Connection) -> str:
    place = connection.info.get("place")
    if place is None:
        driver = connection.connection.driver_connection
        assert driver is not None
        place = next((row[2] for row in driver.execute("PRAGMA database_list")), "")
        connection.info["place"] = place
    return str(place)
