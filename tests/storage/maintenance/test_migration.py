"""A migration keeps the database of before beside it, and does not begin without room for that."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from storage.database import open_writer
from storage.database_errors import DatabaseTooNewError, StorageError
from storage.maintenance import check_backup as maintenance
from storage.maintenance.restore import restore
from storage.schema import REVISION
from tests.conftest import REPOSITORY
from tests.support.daemons import bt_daemon
from tests.support.stored_results import Program

# The schema of commit e67d56b.
EARLIER = REPOSITORY / "tests" / "schemas" / "0001.sql"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "results.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(EARLIER.read_text())
    return path


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_database_of_before_is_kept_whole_and_private(database: Path) -> None:
    before = dump(database)

    open_writer(database).close()

    kept = database.with_name(f"results.db.before-{REVISION}")
    assert dump(kept) == before
    assert kept.stat().st_mode & 0o777 == 0o600
    assert maintenance.facts(database).revision == REVISION


def test_current_database_and_a_new_one_are_not_copied(database: Path, tmp_path: Path) -> None:
    open_writer(database).close()
    open_writer(database).close()
    open_writer(tmp_path / "new.db").close()

    assert [path.name for path in tmp_path.glob("*.before-*")] == [f"results.db.before-{REVISION}"]


def test_copy_of_an_earlier_migration_is_not_overwritten(database: Path) -> None:
    taken = database.with_name(f"results.db.before-{REVISION}")
    taken.write_text("mine")

    open_writer(database).close()

    assert taken.read_text() == "mine"
    assert maintenance.facts(database.with_name(f"{taken.name}-1")).revision == "0001"


def test_without_room_for_the_copy_nothing_is_migrated(database: Path) -> None:
    before = dump(database)

    with (
        files_no_larger_than(database.stat().st_size // 2),
        pytest.raises(StorageError, match="not migrated: no backup"),
    ):
        open_writer(database)

    assert dump(database) == before
    assert sorted(path.name for path in database.parent.glob("*b*")) == ["results.db"]


def test_going_back_is_restoring_the_copy(database: Path) -> None:
    before = dump(database)
    open_writer(database).close()

    done = restore(database, database.with_name(f"results.db.before-{REVISION}"))

    assert dump(database) == before  # as the older version finds it
    assert done.kept is not None
    assert maintenance.facts(done.kept).revision == REVISION


def test_dry_run_says_what_would_be_done_and_does_nothing(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = dump(database)

    ran = Program(database, capsys)("db", "migrate", "--dry-run")

    assert ran.code == 0
    assert ran.out.startswith(f"schema 0001 -> {REVISION}\n  0002: ")
    assert "would be kept" in ran.err
    assert dump(database) == before
    assert list(database.parent.glob("*.before-*")) == []


def test_database_of_a_newer_version_is_no_migration(database: Path) -> None:
    open_writer(database).close()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()

    with pytest.raises(DatabaseTooNewError):
        maintenance.planned_migration(database)


@pytest.mark.slow
def test_watch_upgrades_and_older_rows_are_there_after_going_back_and_up_again(
    database: Path, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    asked = ("results", "--count", "--status", "all", "--db", database)

    first = bt_daemon("watch", inbox, "--once", "--db", database)
    count = bt_daemon(*asked).stdout
    kept = database.with_name(f"results.db.before-{REVISION}")
    back = bt_daemon("db", "restore", kept, "--db", database)
    again = bt_daemon("watch", inbox, "--once", "--db", database)

    assert (first.returncode, back.returncode, again.returncode) == (0, 0, 0), again.stderr
    assert bt_daemon(*asked).stdout == count != "0\n"
