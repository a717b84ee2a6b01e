"""The database as a file: whole after the daemon's end, put back from a backup, and its own throughout."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.database import close_whole, open_writer, writing
from storage.database_errors import DatabaseLostError
from storage.lock import DatabaseLock
from storage.maintenance import check_backup as maintenance
from storage.schema import REVISION
from tests.conftest import REPOSITORY
from tests.harness.troubles.support import put, until_rows
from tests.support.daemons import bt_daemon, count, running
from tests.support.stored_results import Program, Store, judged

SCHEMAS = REPOSITORY / "tests" / "schemas"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results.db", tmp_path / "inbox")
    store.put([(b"%d.png" % number, judged()) for number in range(5)])
    return store


@pytest.fixture
def program(store: Store, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(store.path, capsys)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "watched"
    folder.mkdir()
    return folder


def _beside(database: Path) -> list[str]:
    """Return the database's own files; the folder of its models is no part of it."""
    names = (name for name in os.listdir(database.parent) if name.startswith(database.name))
    return sorted(name for name in names if not name.endswith("-models"))


@pytest.mark.slow
@pytest.mark.defects(4)
def test_after_once_a_plain_copy_of_the_one_file_holds_every_row(inbox: Path, tmp_path: Path) -> None:
    database, copy = tmp_path / "results.db", tmp_path / "copy.db"
    put(inbox, range(20))

    done = bt_daemon("watch", inbox, "--once", "--db", database)
    beside = _beside(database)
    shutil.copy(database, copy)

    assert done.returncode == 0, done.stderr
    assert beside == ["results.db", "results.db.lock"]
    assert count(copy) == 20
    assert maintenance.check(copy).problems == ()


@pytest.mark.slow
@pytest.mark.defects(4)
def test_after_a_stop_no_log_is_left_beside_the_database(inbox: Path, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    with running(inbox, database=database) as daemon:
        put(inbox, range(20))
        until_rows(daemon, 20)
        code = daemon.stop(signal.SIGTERM)

    assert code == 0
    assert _beside(database) == ["results.db", "results.db.lock"]


@pytest.mark.defects(4)
def test_restore_puts_a_backup_in_place_and_keeps_what_it_replaces(
    store: Store, program: Program, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    program("db", "backup", str(backup))
    store.put([(b"later.png", judged())])

    ran = program("db", "restore", str(backup))

    assert ran.code == 0, ran.err
    assert program("db", "check").out == "ok: 5 results of 5 file versions\n"
    assert stat.S_IMODE(store.file.stat().st_mode) == 0o600
    kept = [name for name in _beside(store.file) if ".replaced-" in name]
    assert len(kept) == 1
    assert kept[0] in ran.err
    assert maintenance.check(store.file.with_name(kept[0])).results == 6
    assert count(backup) == 5


@pytest.mark.defects(4)
def test_restore_keeps_rows_that_only_the_log_of_a_killed_daemon_holds(
    store: Store, program: Program, tmp_path: Path
) -> None:
    backup, crashed = tmp_path / "backup.db", tmp_path / "crashed" / "results.db"
    program("db", "backup", str(backup))
    crashed.parent.mkdir()
    with closing(sqlite3.connect(store.path)) as writer:
        writer.execute("UPDATE result SET confidence = 0.123 WHERE id = 1")
        writer.commit()
        for suffix in ("", "-wal"):  # as they lie after a kill
            shutil.copy(f"{store.path}{suffix}", f"{crashed}{suffix}")

    ran = program("db", "restore", str(backup), "--db", str(crashed))

    assert ran.code == 0, ran.err
    assert program("db", "check", "--db", str(crashed)).code == 0
    (kept,) = [name for name in _beside(crashed) if ".replaced-" in name]
    assert count(crashed.with_name(kept), "SELECT count(*) FROM result WHERE confidence = 0.123") == 1
    assert count(crashed, "SELECT count(*) FROM result WHERE confidence = 0.123") == 0


@pytest.mark.defects(4)
def test_restore_replaces_a_database_that_is_damaged_and_keeps_it_as_it_is(
    store: Store, program: Program, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    program("db", "backup", str(backup))
    store.file.write_bytes(b"no database at all" * 500)
    store.file.with_name("results.db-wal").write_bytes(b"an old log")

    ran = program("db", "restore", str(backup))

    assert ran.code == 0, ran.err
    assert program("db", "check").code == 0
    kept = [name for name in _beside(store.file) if ".replaced-" in name]
    assert store.file.with_name(min(kept, key=len)).read_bytes() == b"no database at all" * 500


@pytest.mark.defects(4)
def test_restore_is_refused_while_a_daemon_holds_the_database(
    store: Store, program: Program, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    program("db", "backup", str(backup))
    before = store.file.read_bytes()

    with DatabaseLock(store.file):
        ran = program("db", "restore", str(backup))

    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert f"pid {os.getpid()}" in ran.err
    assert "stop it first" in ran.err
    assert store.file.read_bytes() == before


@pytest.mark.defects(4)
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no file"),
        ("torn", "damaged"),
        ("text", "not a database"),
        ("foreign", "no database of this program"),
        ("newer", "upgrade bt-daemon"),
    ],
)
def test_restore_refuses_a_backup_it_cannot_stand_for_and_changes_nothing(
    store: Store, program: Program, tmp_path: Path, kind: str, words: str
) -> None:
    backup = tmp_path / "backup.db"
    if kind != "missing":
        program("db", "backup", str(backup))
    if kind == "torn":
        backup.write_bytes(backup.read_bytes()[:-20_000])
    elif kind == "text":
        backup.write_bytes(b"some text" * 1000)
    elif kind == "foreign":
        backup.unlink()
        with closing(sqlite3.connect(backup)) as other:
            other.execute("CREATE TABLE something (x)")
    elif kind == "newer":
        with closing(sqlite3.connect(backup)) as other, other:
            other.execute("UPDATE alembic_version SET version_num = '9999'")
    before = store.file.read_bytes()

    ran = program("db", "restore", str(backup))

    assert (ran.code, ran.out, ran.err.count("\n")) == (3, "", 1)
    assert words in ran.err
    assert store.file.read_bytes() == before
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".restore-") or ".replaced-" in name]


@pytest.mark.defects(4)
def test_restore_takes_a_backup_of_an_older_schema_and_watch_migrates_it(
    program: Program, store: Store, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    with closing(sqlite3.connect(backup)) as old:
        old.executescript((SCHEMAS / "0001.sql").read_text())

    assert program("db", "restore", str(backup)).code == 0
    assert program("db", "migrate").out.startswith(f"schema 0001 -> {REVISION}\n")


@pytest.mark.defects(4)
def test_restore_into_an_empty_place_makes_the_database_and_keeps_nothing(
    store: Store, program: Program, tmp_path: Path
) -> None:
    backup, other = tmp_path / "backup.db", tmp_path / "other.db"
    program("db", "backup", str(backup))

    ran = program("db", "restore", str(backup), "--db", str(other))

    assert (ran.code, ran.err) == (0, "")
    assert count(other) == 5
    assert not [name for name in _beside(other) if ".replaced-" in name]


def _open(path: Path) -> sa.Connection:
    connection = open_writer(path)
    with writing(connection):
        connection.exec_driver_sql("INSERT INTO inbox (path) VALUES (x'2f61')")
    return connection


def _bytes(path: Path) -> dict[str, bytes]:
    return {name: path.with_name(name).read_bytes() for name in _beside(path) if not name.endswith(".lock")}


@pytest.mark.defects(5)
@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_database_that_is_not_the_open_file_any_more_is_noticed(tmp_path: Path, how: str) -> None:
    path = tmp_path / "results.db"
    with DatabaseLock(path) as lock:
        lock.check()
        if how == "deleted":
            path.unlink()
        else:
            path.rename(tmp_path / "old.db")
        if how == "replaced":
            path.touch()

        with pytest.raises(
            DatabaseLostError, match="replaced by another" if how == "replaced" else "deleted"
        ):
            lock.check()


@pytest.mark.defects(5)
@pytest.mark.parametrize("own_log", [False, True])
def test_a_newcomer_stays_byte_for_byte_and_the_moved_database_keeps_its_rows(
    tmp_path: Path, own_log: bool
) -> None:
    """The old log, left beside the newcomer, would be played into it by whoever opens it next."""
    path, aside, other = tmp_path / "results.db", tmp_path / "old.db", tmp_path / "new" / "results.db"
    other.parent.mkdir()
    newcomer = _open(other)
    connection = _open(path)
    path.rename(aside)
    for suffix in ("", "-wal", "-shm") if own_log else ("",):
        shutil.copy(f"{other}{suffix}", tmp_path / "part")
        os.replace(tmp_path / "part", f"{path}{suffix}")
    before = {**_bytes(path)}
    if not own_log:
        before = {"results.db": before["results.db"]}

    close_whole(connection, lost=path)

    assert _bytes(path) == before
    assert count(aside, "SELECT count(*) FROM inbox") == 1
    newcomer.close()


@pytest.mark.slow
@pytest.mark.defects(5)
def test_a_daemon_whose_database_is_replaced_ends_loudly_within_a_few_beats(
    inbox: Path, tmp_path: Path
) -> None:
    path = tmp_path / "results.db"
    with running(inbox, database=path) as daemon:
        put(inbox, range(5))
        until_rows(daemon, 5)
        newcomer = tmp_path / "newcomer.db"
        open_writer(newcomer).close()
        before = newcomer.read_bytes()
        os.replace(newcomer, path)
        code = daemon.process.wait(30)

    assert code == 3
    assert path.read_bytes() == before
    assert _beside(path) == ["results.db", "results.db.lock"]
    assert "was replaced by another file" in daemon.log.read_text().splitlines()[-1]
