"""SQLite as the database: one file in write-ahead mode, opened for writing or for reading.

Durability: write-ahead log with synchronous=FULL. With NORMAL a power cut could take back the last
commits; but a committed row may have been read, reported, or its file moved away, so each commit
is flushed. That is one flush per turn of the daemon, not per image.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from config.filesystem import filesystem_of, is_network_filesystem
from config.paths import default_database
from config.text import printable
from storage.backend.backend import BUSY_SECONDS, OPTION
from storage.backend.revisions import check_revision, let_in
from storage.backend.transactions import begin_with, reading, writing
from storage.database_copy import copy_database
from storage.database_errors import (
    DatabaseCorruptError,
    DatabaseMissingError,
    DatabaseOnNetworkError,
    DatabaseUnwritableError,
    database_errors,
)
from storage.file_identity import withdraw_log
from storage.schema import REVISION, create

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


class SqliteBackend:
    """A database in a file on a local disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def place(self) -> str:
        """Return the file's path."""
        return str(self._path)

    @property
    def stand_in(self) -> Path:
        """Return the file itself."""
        return self._path

    def open_writer(self, busy_seconds: float, *, checkpoints: bool, sole: bool) -> sa.Connection:  # noqa: ARG002
        """Open the file for writing; it is made, or migrated, if need be. Its lock file sees to `sole`."""
        with database_errors(self.place):
            prepare_file(self._path)
            engine = self._engine(
                lambda: sqlite3.connect(self._path, timeout=busy_seconds, isolation_level=None),
                begin="BEGIN IMMEDIATE",
            )
            connection = engine.connect()
            try:
                _apply(connection, _WRITER_PRAGMAS)
                if not checkpoints:
                    _apply(connection, ("PRAGMA wal_autocheckpoint = 0",))
                self._migrate(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def open_reader(self, busy_seconds: float) -> sa.Connection:
        """Open the file for reading only."""
        return self._open_known(busy_seconds, "ro", _READER_PRAGMAS)

    def open_beside(self, busy_seconds: float) -> sa.Connection:
        """Open the file for transactions that do not wait for the disk while they hold its lock."""
        return self._open_known(busy_seconds, "rw", _BESIDE_PRAGMAS)

    def open_any(self) -> sa.Connection:
        """Open the file for reading, whatever tables it has."""
        if not _is_there(self._path):
            raise DatabaseMissingError(
                f"there is no database at {printable(self.place)} yet",
                hint="start `bt-daemon watch DIR` first, or name one with --db",
            )
        with database_errors(self.place):
            engine = self._engine(lambda: _connect(self._path, BUSY_SECONDS, "ro"), begin="BEGIN")
            return engine.connect()

    def stored_revision(self, connection: sa.Connection) -> str | None:
        """Return the schema revision, None if there is no schema of ours yet."""
        names = connection.exec_driver_sql(
            "SELECT count(*), sum(name = 'alembic_version') FROM sqlite_master"
        )
        tables, versioned = names.one()
        if not versioned:
            if tables:
                raise DatabaseCorruptError(
                    f"{self.place_of(connection)} is a database of another program", hint="give another --db"
                )
            return None
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
        return None if found is None else str(found)

    def change_number(self, connection: sa.Connection) -> int:
        """Return SQLite's own number of what other connections committed."""
        return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())

    def place_of(self, connection: sa.Connection) -> str:
        """Return the file's path, as SQLite opened it."""
        place = connection.info.get("place")
        if place is None:
            driver = connection.connection.driver_connection
            assert driver is not None
            place = next((row[2] for row in driver.execute("PRAGMA database_list")), "")
            connection.info["place"] = place
        return str(place)

    def is_sound(self, connection: sa.Connection) -> bool:
        """Look at the whole file through another connection; of this one forget what was read wrongly."""
        with contextlib.suppress(sqlite3.Error, sa.exc.SQLAlchemyError):
            _apply(connection, ("PRAGMA shrink_memory",))
        try:
            place = Path(self.place_of(connection))
            with contextlib.closing(connect_read_only(place, BUSY_SECONDS)) as fresh:
                return bool(fresh.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
        except sqlite3.Error:
            return False

    def give_up(self, connection: sa.Connection) -> None:
        """Roll back past SQLAlchemy."""
        driver = connection.connection.driver_connection
        if driver is not None and driver.in_transaction:
            driver.rollback()

    def close_whole(self, connection: sa.Connection, lost: Path | None) -> None:
        """Close a writer and leave all that was committed in the one file, if the disk and readers let it."""
        with contextlib.suppress(sqlite3.Error, sa.exc.SQLAlchemyError):
            _apply(connection, ("PRAGMA wal_checkpoint(TRUNCATE)",))
        if lost is not None:
            withdraw_log(lost)
        connection.close()

    def _open_known(self, busy_seconds: float, mode: str, pragmas: tuple[str, ...]) -> sa.Connection:
        """Open a database of this version that is there, by SQLite's own means alone."""
        if not _is_there(self._path):
            raise DatabaseMissingError(
                f"there is no database at {printable(self.place)} yet",
                hint="start `bt-daemon watch DIR` first, or name one with --db",
            )
        with database_errors(self.place):
            begin = "BEGIN" if mode == "ro" else "BEGIN IMMEDIATE"
            engine = self._engine(lambda: _connect(self._path, busy_seconds, mode), begin=begin)
            connection = engine.connect()
            try:
                _apply(connection, pragmas)
                with reading(connection):
                    let_in(self.stored_revision(connection), self.place)
            except BaseException:
                connection.close()
                raise
        return connection

    def _engine(self, connect: Any, begin: str) -> sa.Engine:
        """Return an engine whose one connection is opened by `connect` and closed for good on close."""
        engine = sa.create_engine(
            "sqlite://", creator=connect, poolclass=sa.NullPool, execution_options={OPTION: self}
        )
        # sqlite3's own rules would start no transaction before a SELECT or before DDL; so it is told not
        # to (isolation_level=None), and each transaction begins here, visibly.
        begin_with(engine, begin, "BEGIN")
        return engine

    def _migrate(self, connection: sa.Connection) -> None:
        """Bring the schema to this version's revision, with a copy of the database of before beside it.

        Alembic is imported for an older database only. Without room for the copy nothing is changed.
        """
        with reading(connection):
            stored = self.stored_revision(connection)
        if stored == REVISION:
            return
        with writing(connection):
            stored = self.stored_revision(connection)  # another process may have come first
            check_revision(stored, self.place)
            if stored is None:
                create(connection)
            elif stored != REVISION:
                from storage.migrations import upgrade

                _keep_before(self._path)
                upgrade(connection)


def connect_read_only(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """Return a bare connection that cannot write; SQLite alone, no SQLAlchemy needed by the caller."""
    return _connect(path, busy_seconds, "ro")


def _connect(path: Path, busy_seconds: float, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode={mode}", uri=True, timeout=busy_seconds, isolation_level=None
    )


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
