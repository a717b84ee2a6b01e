"""Opening: what is made, migrated, refused, and said when it cannot be."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from config.errors import DatabaseError, UsageError
from config.paths import default_database
from storage import migrations
from storage.database import database_path, open_reader, open_writer, reading, writing
from storage.database_errors import (
    DatabaseBusyError,
    DatabaseCorruptError,
    DatabaseFullError,
    DatabaseMissingError,
    DatabaseOnNetworkError,
    DatabaseTooNewError,
    DatabaseTooOldError,
    DatabaseUnavailableError,
    DatabaseUnwritableError,
    StorageError,
)
from storage.queries.results import count
from storage.records import Outcome
from storage.schema import REVISION, create
from tests.conftest import REPOSITORY
from tests.support.ledgers import TUMOUR, Store, open_store, raw


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KB that really fills up."""
    place = tmp_path / "tiny"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def in_new_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )


def test_new_database_is_made_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.db"
    path.parent.mkdir()

    with open_writer(path) as connection, writing(connection):
        connection.exec_driver_sql("INSERT INTO label (name) VALUES ('tumour')")
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}

    assert modes == {"results.db": 0o600, "results.db-wal": 0o600, "results.db-shm": 0o600}


def test_writer_flushes_every_commit_and_guards_references(tmp_path: Path) -> None:
    with open_writer(tmp_path / "results.db") as connection, reading(connection):
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.slow
def test_new_database_is_what_the_migrations_lead_to(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
    open_writer(path).close()
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        migrations.upgrade(connection)
        migrated = connection.exec_driver_sql(query).all()
        revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").all()
    engine.dispose()

    made = raw(path, query)

    def shape(rows: list[tuple[object, ...]]) -> dict[object, list[str]]:
        """Return each object's parts; in which order constraints are written makes no difference."""
        parts = {name: re.split("[(),]", "".join(str(sql).split())) for _, name, sql in rows}
        return {name: sorted(part) for name, part in parts.items()}

    assert "alembic_version" in shape(made)
    assert shape(made) == shape([tuple(row) for row in migrated])
    assert raw(path, "SELECT version_num FROM alembic_version") == [tuple(row) for row in revision]


def test_code_and_migrations_agree_on_the_newest_revision() -> None:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(migrations.configuration())

    assert script.get_current_head() == REVISION


@pytest.mark.parametrize("new", [True, False])
def test_opening_a_new_or_current_database_does_not_import_alembic(tmp_path: Path, new: bool) -> None:
    path = tmp_path / "results.db"
    if not new:
        open_writer(path).close()

    done = in_new_process(
        """
        import sys
        from storage.database import open_writer
        open_writer(sys.argv[1]).close()
        print("alembic" in sys.modules)
        """,
        str(path),
    )

    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_lookup_in_the_lanes_does_not_import_sqlalchemy() -> None:
    done = in_new_process("import sys, storage.ledger.result_cache; print('sqlalchemy' in sys.modules)")

    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_reader_of_a_missing_database_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissingError, match="bt-daemon watch") as caught:
        open_reader(tmp_path / "results.db")

    assert caught.value.exit_code == 3
    assert not (tmp_path / "results.db").exists()


def test_reader_cannot_write(tmp_path: Path) -> None:
    open_writer(tmp_path / "results.db").close()

    with (
        open_reader(tmp_path / "results.db") as connection,
        pytest.raises(DatabaseUnwritableError),
        writing(connection),
    ):
        connection.exec_driver_sql("INSERT INTO label (name) VALUES ('x')")


def test_url_and_file_mean_the_same(tmp_path: Path) -> None:
    path = tmp_path / "results.db"

    assert database_path(f"sqlite:///{path}") == path == database_path(str(path))


@pytest.mark.parametrize("url", ["postgresql://host/db", "sqlite://", "sqlite:///:memory:", "nonsense://x"])
def test_url_of_no_file_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError):
        database_path(url)


def test_newer_schema_is_refused_by_reader_and_writer_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    open_writer(path).close()
    raw(path, "UPDATE alembic_version SET version_num = '9999'")

    for opener in (open_writer, open_reader):
        with pytest.raises(DatabaseTooNewError, match="upgrade bt-daemon"):
            opener(path)

    assert raw(path, "SELECT version_num FROM alembic_version") == [("9999",)]


def test_older_schema_is_refused_by_readers_with_the_command_that_helps(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    open_writer(path).close()
    raw(path, "UPDATE alembic_version SET version_num = '0000'")

    with pytest.raises(DatabaseTooOldError, match="bt-daemon db migrate"):
        open_reader(path)


def test_failing_first_start_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.db"

    def create_and_fail(connection: sa.Connection) -> None:
        create(connection)
        raise RuntimeError

    monkeypatch.setattr("storage.backend.sqlite.create", create_and_fail)
    with pytest.raises(RuntimeError):
        open_writer(path)
    monkeypatch.undo()

    assert raw(path, "SELECT * FROM sqlite_master") == []
    open_writer(path).close()


def test_failing_migration_leaves_the_older_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.db"
    open_writer(path).close()
    raw(path, "UPDATE alembic_version SET version_num = '0000'")
    before = raw(path, "SELECT name, sql FROM sqlite_master")

    def upgrade_and_fail(connection: sa.Connection) -> None:
        connection.exec_driver_sql("DROP TABLE tally")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
        raise RuntimeError

    monkeypatch.setattr(migrations, "upgrade", upgrade_and_fail)
    with pytest.raises(RuntimeError):
        open_writer(path)

    assert raw(path, "SELECT name, sql FROM sqlite_master") == before
    assert raw(path, "SELECT version_num FROM alembic_version") == [("0000",)]


def test_another_programs_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    raw(path, "CREATE TABLE music (id INTEGER)")

    with pytest.raises(DatabaseCorruptError, match="another program"):
        open_writer(path)

    assert raw(path, "SELECT name FROM sqlite_master") == [("music",)]


@pytest.mark.parametrize("content", [b"no database at all, but long enough" * 200, b"\x89PNG"])
def test_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.db"
    path.write_bytes(content)

    with pytest.raises(DatabaseError) as caught:
        open_writer(path)

    assert "is not a database" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_damaged_database_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    store = open_store(path)
    store.judge(store.add(*(b"%d.png" % number for number in range(500))))
    store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))

    with pytest.raises(DatabaseCorruptError, match="damaged"), open_reader(path) as connection:
        count(connection)


def _failed_with(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database disk image is malformed")
    error.sqlite_errorcode = code
    return error


@pytest.mark.defects(8)
def test_one_read_that_fails_on_a_sound_database_is_a_passing_trouble(tmp_path: Path) -> None:
    """SQLite says 'malformed' after one EIO too; only a second look tells."""
    store = open_store(tmp_path / "results.db")
    entries = store.add(b"a.png")

    for transaction in (reading, writing):
        with (
            pytest.raises(DatabaseUnavailableError, match="found it sound") as caught,
            transaction(store.connection),
        ):
            raise _failed_with(sqlite3.SQLITE_CORRUPT)
        assert caught.value.transient

    store.judge(entries)
    with open_reader(store.path) as connection:
        assert count(connection) == 1
    store.close()


@pytest.mark.defects(35)
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_PROTOCOL, DatabaseBusyError),
        (sqlite3.SQLITE_NOLFS, DatabaseError),
        (sqlite3.SQLITE_INTERNAL, DatabaseError),
        (sqlite3.SQLITE_TOOBIG, DatabaseError),
    ],
)
def test_whatever_sqlite_says_is_one_line(tmp_path: Path, code: int, kind: type[DatabaseError]) -> None:
    store = open_store(tmp_path / "results.db")

    with pytest.raises(kind) as caught, reading(store.connection):
        raise _failed_with(code)

    assert "\n" not in str(caught.value)
    assert str(store.path) in str(caught.value)
    store.close()


@pytest.mark.defects(35)
@pytest.mark.parametrize("place", ["/proc/x.db", "nope/deeper/results.db"])
def test_a_place_that_can_hold_no_database_is_refused_and_nothing_is_made(tmp_path: Path, place: str) -> None:
    with pytest.raises(DatabaseUnwritableError):
        open_writer(tmp_path / place)

    assert os.listdir(tmp_path) == []


@pytest.mark.defects(35)
def test_the_usual_folder_is_made_for_its_owner_only() -> None:
    open_writer(default_database()).close()

    assert stat.S_IMODE(default_database().parent.stat().st_mode) == 0o700


def test_folder_in_place_of_the_database_and_a_file_in_place_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for path in (tmp_path, tmp_path / "file" / "results.db"):
        with pytest.raises(DatabaseUnwritableError):
            open_writer(path)


def test_database_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"36 35 98:0 / {tmp_path} rw - nfs4 server:/export rw\n")
    monkeypatch.setattr("config.filesystem.MOUNT_TABLE", table)

    with pytest.raises(DatabaseOnNetworkError, match=r"nfs4.*local disk"):
        open_writer(tmp_path / "results.db")

    assert not (tmp_path / "results.db").exists()


def test_write_lock_of_another_process_is_transient_and_nothing_is_lost(tmp_path: Path) -> None:
    """The same calls are repeated until they succeed; readers are not held up meanwhile."""
    path = tmp_path / "results.db"
    store = open_store(path)
    [entry] = store.add(b"a.png")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"

    for _ in range(3):
        with pytest.raises(DatabaseBusyError) as caught, store.ledger.transaction():
            store.judge([entry])
    meanwhile = store.due()
    with open_reader(path) as reader:
        seen = count(reader)
    holder.communicate()
    store.judge([entry])

    assert caught.value.transient
    assert meanwhile == [entry]
    assert (seen, count(store.connection)) == (0, 1)
    store.close()


def test_full_disk_is_transient_and_work_goes_on_when_there_is_room(tiny_disk: Path) -> None:
    store = open_store(tiny_disk / "results.db")
    stored, waiting = fill_up(store)

    for _ in range(3):
        with pytest.raises(DatabaseFullError) as caught:
            store_turn(store, waiting)
    subprocess.run(["mount", "-o", "remount,size=8m", str(tiny_disk)], check=True)
    store_turn(store, waiting)

    assert caught.value.transient
    assert caught.value.exit_code == 3
    assert count(store.connection) == stored + 50
    assert store.is_sound()
    store.close()


@pytest.mark.parametrize("kind", [DatabaseBusyError, DatabaseFullError, DatabaseUnavailableError])
def test_trouble_that_passes_is_marked_as_transient(kind: type[StorageError]) -> None:
    assert kind.transient
    assert not DatabaseCorruptError.transient


def test_page_limit_and_file_size_limit_are_transient_too(tmp_path: Path) -> None:
    store = open_store(tmp_path / "results.db")
    driver = store.connection.connection.driver_connection
    assert driver is not None
    driver.execute("PRAGMA max_page_count = 60").close()
    stored, waiting = fill_up(store)

    driver.execute("PRAGMA max_page_count = 1000000").close()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "results.db-wal").stat().st_size, limit[1]))
    try:
        more, waiting = fill_up(store, first=waiting)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    store_turn(store, waiting)

    assert count(store.connection) == stored + more + 50
    assert store.is_sound()
    store.close()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace to inject the fault")
def test_failed_flush_is_transient_and_the_repeat_neither_loses_nor_doubles(tmp_path: Path) -> None:
    """After an error of fsync the commit may have persisted or not; either way the repeat sets it right."""
    path = tmp_path / "results.db"
    open_store(path).close()
    code = """
    import sys
    from pathlib import Path
    from config.errors import DatabaseError
    from tests.support.ledgers import open_store
    from tests.storage.test_database import store_turn
    store = open_store(Path(sys.argv[1]))
    failures = 0
    for number in range(0, 1_000, 50):
        while True:
            try:
                store_turn(store, number)
                break
            except DatabaseError as error:
                assert error.transient, error
                failures += 1
    print(failures)
    """
    trace = str(tmp_path / "trace")
    fault = "inject=fsync,fdatasync:error=EIO:when=4..12+2"
    done = subprocess.run(
        [
            *(
                "strace",
                "-f",
                "-qq",
                "-o",
                trace,
                "-e",
                "trace=fsync,fdatasync",
                "-e",
                fault,
            ),
            *(sys.executable, "-c", textwrap.dedent(code), str(path)),
        ],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("tracing is not allowed here")

    assert done.stderr == ""
    assert int(done.stdout) >= 3
    store = open_store(path)
    assert count(store.connection) == 1_000
    assert store.is_sound()
    store.close()


@pytest.mark.slow
def test_killed_writer_leaves_every_acknowledged_row_and_a_sound_database(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    code = """
    import sys
    from pathlib import Path
    from tests.support.ledgers import open_store
    store = open_store(Path(sys.argv[1]), busy_seconds=5)
    for turn in range(1_000_000):
        with store.ledger.transaction():
            entries = store.add(*(b"%d-%d.png" % (turn, number) for number in range(20)))
            store.judge(entries)
        print((turn + 1) * 20, flush=True)
    """
    open_store(path).close()
    acknowledged = 0
    for _ in range(3):
        path.unlink()
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(path)], stdout=subprocess.PIPE, cwd=REPOSITORY
        )
        assert writer.stdout is not None
        for _ in range(7):
            acknowledged = int(writer.stdout.readline())
        writer.kill()
        rest = writer.communicate()[0].split()
        acknowledged = int(rest[-1]) if rest else acknowledged

        with open_reader(path) as reader:
            assert count(reader) >= acknowledged
        store = open_store(path)
        assert store.is_sound()
        assert count(store.connection) % 20 == 0
        store.close()


def test_reader_answers_while_a_writer_commits_and_never_blocks_it(tmp_path: Path) -> None:
    store = open_store(tmp_path / "results.db")
    store.judge(store.add(b"0.png"))

    with open_reader(store.path) as reader, reading(reader):
        before = count(reader)
        started = time.monotonic()
        for number in range(1, 20):
            store.judge(store.add(b"%d.png" % number))
        spent = time.monotonic() - started
        during = count(reader)

    assert (before, during) == (1, 1)
    assert spent < 5
    store.close()


def test_process_beside_the_daemon_can_write_without_checkpointing(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    open_writer(path).close()

    with open_writer(path, checkpoints=False) as connection, reading(connection):
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar_one() == 0


def test_faults_of_ours_are_not_dressed_up_as_trouble(tmp_path: Path) -> None:
    store = open_store(tmp_path / "results.db")

    with pytest.raises(sa.exc.IntegrityError), writing(store.connection):
        store.connection.exec_driver_sql("INSERT INTO folder (inbox_id, path) VALUES (999, x'00')")

    store.close()


def store_turn(store: Store, number: int) -> None:
    """Add and judge fifty files in one commit; the same `number` gives the same files."""
    names = [b"%06d-%s.png" % (number + offset, b"x" * 100) for offset in range(50)]
    with store.ledger.transaction():
        store.ledger.add([store.version(name) for name in names])
        entries = store.ledger.due(1_000, store.clock.now_us)
        outcomes = [Outcome(entry.file_id, TUMOUR, os.urandom(32)) for entry in entries]
        store.ledger.record(outcomes, store.model_id)


def fill_up(store: Store, first: int = 0) -> tuple[int, int]:
    """Store turns until nothing fits; return how many rows were acknowledged and which turn failed."""
    for number in range(first, first + 1_000_000, 50):
        try:
            store_turn(store, number)
        except (DatabaseFullError, DatabaseUnavailableError):
            return number - first, number
    raise AssertionError("it never filled up")
