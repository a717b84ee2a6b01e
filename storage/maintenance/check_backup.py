"""Check, back up and migrate a database, and say where it is (see also `prune`, `restore`)."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from config.database_url import is_server_url
from config.errors import UsageError
from config.filesystem import filesystem_of
from config.text import printable
from storage.backend.revisions import check_revision
from storage.backend.sqlite import free_backup_name
from storage.database import (
    BUSY_SECONDS,
    connect_read_only,
    database_path,
    open_reader,
    open_writer,
    reading,
    shown_place,
)
from storage.database_copy import copy_database
from storage.database_errors import DatabaseMissingError, database_errors
from storage.maintenance.server_facts import refuse_copies, server_facts
from storage.schema import REVISION, STANDS, ReviewAnswer, file, result, review, tally


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
    reviews: int  # withdrawn ones among them


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
    """Look at every page, index and reference, and compare the tallies with the rows they count.

    Of a database on a server only the latter: its pages are looked at by pg_amcheck.
    """
    with open_reader(target) as connection, reading(connection):
        problems = _problems_of_file(connection) if connection.dialect.name == "sqlite" else []
        results = connection.execute(sa.select(sa.func.count()).select_from(result)).scalar_one()
        files = connection.execute(sa.select(sa.func.count()).select_from(file)).scalar_one()
        counted = sa.select(tally.c.seconds, sa.func.sum(tally.c.count)).group_by(tally.c.seconds)
        reviews = connection.execute(sa.select(sa.func.count()).select_from(review)).scalar_one()
        problems += [
            f"{number} reviews {fact}"
            for fact, wrong in _WRONG_REVIEWS.items()
            if (number := connection.execute(wrong).scalar_one())
        ]
        problems += [
            f"the tallies of {seconds} s count {number} results, there are {results}"
            for seconds, number in connection.execute(counted)
            if number != results
        ]
    return Check(tuple(problems), results, files, reviews)


def _problems_of_file(connection: sa.Connection) -> list[str]:
    problems = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"]
    return problems + [
        f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is missing"
        for row in connection.exec_driver_sql("PRAGMA foreign_key_check")
    ]


def backup(target: str | os.PathLike[str], destination: Path) -> int:
    """Copy the database to a new file while the daemon writes; return its size in bytes.

    The copy is one consistent view, complete on disk before it gets its name; mode 0600.
    Raises UsageError if the name is taken, DatabaseError for trouble with either file.
    """
    if is_server_url(os.fspath(target)):
        refuse_copies(target, "db backup", "pg_dump --format=custom")
    path = database_path(target)
    if not path.exists():
        raise DatabaseMissingError(f"there is no database at {printable(str(path))} yet")
    if destination.exists():
        raise UsageError(f"{printable(str(destination))} exists already", hint="give the backup a new name")
    with database_errors(str(path)), closing(connect_read_only(path, BUSY_SECONDS)) as source:
        try:
            copy_database(source, destination)
        except OSError as error:
            raise UsageError(
                f"the folder {printable(str(destination.parent))} cannot be written ({error.strerror})",
                hint="name another place",
            ) from error
    return destination.stat().st_size


@dataclass(frozen=True, slots=True)
class Migration:
    """What a migration does, or did."""

    before: str | None  # revision; None: the database is empty
    after: str
    steps: tuple[str, ...]  # what each revision between is about
    backup: Path | None  # the copy of before; None: nothing to do, or on a server


def planned_migration(target: str | os.PathLike[str]) -> Migration:
    """Return what `migrate` would do; raise DatabaseError for a database of a newer version."""
    on_server = is_server_url(os.fspath(target))
    before = server_facts(target).revision if on_server else facts(target).revision
    check_revision(before, shown_place(target))
    if before in (None, REVISION):
        return Migration(before, REVISION, (), None)
    from storage.migrations import steps_from

    backup = None if on_server else free_backup_name(database_path(target))
    return Migration(before, REVISION, steps_from(str(before)), backup)


def migrate(target: str | os.PathLike[str]) -> Migration:
    """Bring the database to this version's schema, after a copy of a file was made beside it."""
    planned = planned_migration(target)
    open_writer(target, checkpoints=False).close()
    return planned


_more_than_one = (
    sa.select(sa.func.count().label("number"))
    .where(STANDS)
    .group_by(review.c.file_id, review.c.reviewer_id)
    .having(sa.func.count() > 1)
    .subquery()
)
_is_class = review.c.answer == int(ReviewAnswer.CLASS)
# What is wrong with how many reviews.
_WRONG_REVIEWS = {
    "stand of one reviewer about one file, where one may": sa.select(
        sa.func.coalesce(sa.func.sum(_more_than_one.c.number), 0)
    ),
    "say a class and name none, or name one and say none": sa.select(sa.func.count())
    .select_from(review)
    .where(_is_class == review.c.label_id.is_(None)),
}


def _parts(path: Path) -> list[Path]:
    return [path, path.with_name(path.name + "-wal")]
