"""Check, back up and migrate a database, and say where it is (see also `prune`, `restore`)."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from config.errors import UsageError
from config.files import flush
from config.filesystem import filesystem_of
from config.text import printable
from storage.database import (
    BUSY_SECONDS,
    connect_read_only,
    database_path,
    open_reader,
    open_writer,
    reading,
    stored_revision,
)
from storage.database_errors import DatabaseMissingError, database_errors
from storage.schema import file, result, tally


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What can be said of a database without asking what is in it."""

    path: Path
    exists: bool
    size_bytes: int  # with its write-ahead log
    filesystem: str  # "ext4", ...; "" where the platform does not say
    revision: str | None
    sqlite_version: str


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found; `problems` is empty for a sound database."""

    problems: tuple[str, ...]
    results: int
    files: int


def facts(target: str | os.PathLike[str]) -> DatabaseFacts:
    """Return where the database is and what it is like; it need not exist."""
    path = database_path(target).absolute()
    size = sum(part.stat().st_size for part in _parts(path) if part.exists())
    revision = None
    if path.exists():
        with database_errors(str(path)), closing(connect_read_only(path, BUSY_SECONDS)) as connection:
            names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
            if "alembic_version" in names:
                revision = str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    return DatabaseFacts(path, path.exists(), size, filesystem_of(path), revision, sqlite3.sqlite_version)


def check(target: str | os.PathLike[str]) -> Check:
    """Look at every page, index and reference, and compare the tallies with the rows they count."""
    with open_reader(target) as connection, reading(connection):
        problems = [
            str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"
        ]
        problems += [
            f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is missing"
            for row in connection.exec_driver_sql("PRAGMA foreign_key_check")
        ]
        results = connection.execute(sa.select(sa.func.count()).select_from(result)).scalar_one()
        files = connection.execute(sa.select(sa.func.count()).select_from(file)).scalar_one()
        counted = sa.select(tally.c.seconds, sa.func.sum(tally.c.count)).group_by(tally.c.seconds)
        problems += [
            f"the tallies of {seconds} s count {number} results, there are {results}"
            for seconds, number in connection.execute(counted)
            if number != results
        ]
    return Check(tuple(problems), results, files)


def backup(target: str | os.PathLike[str], destination: Path) -> int:
    """Copy the database to a new file while the daemon writes; return its size in bytes.

    The copy is one consistent view, complete on disk before it gets its name; mode 0600.
    Raises UsageError if the name is taken, DatabaseError for trouble with either file.
    """
    path = database_path(target)
    if not path.exists():
        raise DatabaseMissingError(f"there is no database at {printable(str(path))} yet")
    if destination.exists():
        raise UsageError(f"{printable(str(destination))} exists already", hint="give the backup a new name")
    try:
        handle, name = tempfile.mkstemp(prefix=".backup-", suffix=".db", dir=destination.parent)
    except OSError as error:
        raise UsageError(
            f"the folder {printable(str(destination.parent))} cannot be written ({error.strerror})",
            hint="name another place",
        ) from error
    os.close(handle)
    unfinished = Path(name)
    try:
        _copy(path, unfinished)
        os.link(unfinished, destination)  # unlike rename, fails if the name was taken meanwhile
        flush(destination.parent)
    finally:
        unfinished.unlink(missing_ok=True)
    return destination.stat().st_size


def migrate(target: str | os.PathLike[str]) -> tuple[str | None, str | None]:
    """Bring the database to this version's schema; return the revisions before and after."""
    before = facts(target).revision
    with open_writer(target, checkpoints=False) as connection, reading(connection):
        return before, stored_revision(connection)


def _copy(path: Path, destination: Path) -> None:
    with (
        database_errors(str(path)),
        closing(connect_read_only(path, BUSY_SECONDS)) as source,
        closing(sqlite3.connect(destination)) as copy,
    ):
        # In one step: the reader's view holds, so the daemon's commits neither wait nor restart the copy.
        source.backup(copy, pages=-1)
    flush(destination)


def _parts(path: Path) -> list[Path]:
    return [path, path.with_name(path.name + "-wal")]
