"""Restore a backup in the place of a database, and keep the replaced one beside it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from config.errors import UsageError
from config.files import flush
from config.text import printable
from storage.database import BUSY_SECONDS, connect_read_only, database_path
from storage.database_errors import (
    DatabaseCorruptError,
    DatabaseMissingError,
    DatabaseTooNewError,
    DatabaseUnwritableError,
    database_errors,
)
from storage.schema import REVISION

_OTHER_BACKUP = "name another backup"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put in place, and where the database before it is now."""

    results: int
    kept: Path | None  # None: there was none


def restore(target: str | os.PathLike[str], backup: Path) -> Restored:
    """Put a copy of `backup` in the place of the database; the caller holds the database's lock.

    The copy is checked, complete on disk and mode 0600 before it gets the name, in one step; what it
    replaces is kept beside it with all that was committed. Raises UsageError if both are one file,
    DatabaseError if the backup is missing, damaged, foreign or from a newer version.
    """
    path = Path(os.path.realpath(database_path(target)))
    if not backup.is_file():
        raise DatabaseMissingError(f"there is no file at {printable(str(backup))}", hint=_OTHER_BACKUP)
    if path.exists() and path.samefile(backup):
        raise UsageError(f"{printable(str(backup))} is the database itself", hint=_OTHER_BACKUP)
    unfinished = _empty_file(path.parent)
    try:
        _copy(backup, unfinished)
        results = _checked(unfinished, backup)
        kept = _set_aside(path)
        os.replace(unfinished, path)
        flush(path.parent)
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)
    return Restored(results, kept)


def _empty_file(folder: Path) -> Path:
    try:
        handle, name = tempfile.mkstemp(prefix=".restore-", suffix=".db", dir=folder)
    except OSError as error:
        raise DatabaseUnwritableError(
            f"the folder {printable(str(folder))} cannot be written ({error.strerror})",
            hint="check the path and its permissions, or give another --db",
        ) from error
    os.close(handle)
    return Path(name)


def _copy(backup: Path, unfinished: Path) -> None:
    """Copy with what a log beside the backup holds; without one nothing is made in its folder."""
    log = backup.with_name(backup.name + "-wal")
    with _backup_errors(backup):
        with contextlib.ExitStack() as stack:
            if log.exists() and log.stat().st_size:
                source = connect_read_only(backup, BUSY_SECONDS)
            else:
                source = sqlite3.connect(
                    f"file:{quote(os.fsencode(backup.absolute()))}?immutable=1", uri=True
                )
            stack.enter_context(closing(source))
            source.backup(stack.enter_context(closing(sqlite3.connect(unfinished))), pages=-1)
        flush(unfinished)


def _checked(copy: Path, backup: Path) -> int:
    """Return how many results a sound database of ours holds; raise DatabaseError for any other file."""
    shown = printable(str(backup))
    with _backup_errors(backup), closing(connect_read_only(copy, BUSY_SECONDS)) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise DatabaseCorruptError(f"the backup {shown} is damaged", hint=_OTHER_BACKUP)
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        row = (
            connection.execute("SELECT version_num FROM alembic_version").fetchone()
            if {"alembic_version", "result"} <= names
            else None
        )
        if row is None:
            raise DatabaseCorruptError(f"{shown} is no database of this program", hint=_OTHER_BACKUP)
        if str(row[0]) > REVISION:
            raise DatabaseTooNewError(
                f"the backup {shown} has schema {printable(str(row[0]))}, "
                f"newer than this version's {REVISION}",
                hint="upgrade bt-daemon",
            )
        return int(connection.execute("SELECT count(*) FROM result").fetchone()[0])


@contextlib.contextmanager
def _backup_errors(backup: Path) -> Iterator[None]:
    shown = printable(str(backup))
    try:
        with database_errors(str(backup)):
            yield
    except DatabaseCorruptError as error:
        raise DatabaseCorruptError(
            error.what.replace("the database", "the backup", 1), hint=_OTHER_BACKUP
        ) from error
    except OSError as error:
        raise DatabaseUnwritableError(f"{shown} cannot be copied ({error.strerror})") from error


def _set_aside(path: Path) -> Path | None:
    """Give the database a second name, all its commits with it, and leave no log for the newcomer."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = _free_name(path.with_name(f"{path.name}.replaced-{moment}"))
    there = path.exists() and path.stat().st_size > 0
    if there:
        # One that is damaged keeps its log beside it instead: nothing is thrown away.
        with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as old:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        try:
            os.link(path, kept)  # so that there is no moment without a database
        except OSError:  # a file system without second names
            os.rename(path, kept)
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        os.rename(log, kept.with_name(kept.name + "-wal"))
        there = True
    log.unlink(missing_ok=True)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return kept if there else None


def _free_name(wanted: Path) -> Path:
    number, name = 1, wanted
    while name.exists():
        number += 1
        name = wanted.with_name(f"{wanted.name}-{number}")
    return name
