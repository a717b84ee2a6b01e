"""A database on a PostgreSQL server: made, locked, shared, and opened again after its server was away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from config.errors import UsageError
from storage.backend.backend import backend_of
from storage.database import open_beside, open_reader, open_writer, reading, shown_place, stand_in, writing
from storage.database_errors import (
    DatabaseBusyError,
    DatabaseCorruptError,
    DatabaseLostError,
    DatabaseMissingError,
    DatabaseTooNewError,
    DatabaseUnavailableError,
    DatabaseUnwritableError,
)
from storage.ledger.ledger import Ledger
from storage.lock import lock_holder
from storage.records import FileVersion, Outcome
from tests.conftest import REPOSITORY
from tests.support.ledgers import MODEL, TUMOUR
from tests.support.postgresql_server import NoServerError, PostgresqlServer, postgresql_server

psycopg = pytest.importorskip("psycopg", reason="needs the extra postgresql")

from tests.support.server_control import kill_sessions  # noqa: E402 - after the check for the extra


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    """A real server."""
    with ExitStack() as stack:
        try:
            yield stack.enter_context(postgresql_server())
        except NoServerError as error:
            pytest.skip(f"needs PostgreSQL: {error}")


@pytest.fixture
def url(server: PostgresqlServer) -> Iterator[str]:
    """A database of ours."""
    with server.database() as made:
        yield made


@pytest.fixture
def empty(server: PostgresqlServer) -> Iterator[str]:
    """A database without tables."""
    with server.database(empty=True) as made:
        yield made


def raw(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def version(inbox_id: int, name: bytes) -> FileVersion:
    return FileVersion(inbox_id, b"", name, 7_000, 1, 1)


def test_first_writer_makes_the_tables_and_a_reader_before_it_is_told_to_wait(empty: str) -> None:
    with pytest.raises(DatabaseMissingError, match="still empty"):
        open_reader(empty)

    open_writer(empty).close()

    with closing(open_reader(empty)) as connection, reading(connection):
        assert connection.exec_driver_sql("SELECT count(*) FROM result").scalar_one() == 0


def test_partial_indexes_are_partial_here_too(empty: str) -> None:
    open_writer(empty).close()

    partial = {
        row[0] for row in raw(empty, "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '% WHERE %'")
    }
    assert {"uq_file_current_path", "ix_file_due", "uq_review_standing", "ix_result_sha256_prefix"} <= partial


def test_tables_of_another_program_are_left_alone(empty: str) -> None:
    raw(empty, "CREATE TABLE alembic_version (version_num text)")

    for opener in (open_writer, open_reader):
        with pytest.raises(DatabaseCorruptError, match="another program"):
            opener(empty)

    assert raw(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(1,)]


def test_newer_schema_is_refused_and_left_alone(url: str) -> None:
    raw(url, "UPDATE alembic_version SET version_num = '9999'")

    for opener in (open_writer, open_reader):
        with pytest.raises(DatabaseTooNewError, match="upgrade bt-daemon"):
            opener(url)

    assert raw(url, "SELECT version_num FROM alembic_version") == [("9999",)]


def test_database_that_cannot_hold_every_text_is_refused(server: PostgresqlServer) -> None:
    options = "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'"
    raw(server.url, f"CREATE DATABASE narrow {options}")
    try:
        with pytest.raises(DatabaseUnwritableError, match="SQL_ASCII") as caught:
            open_writer(server.url.replace("/postgres?", "/narrow?"))
    finally:
        raw(server.url, "DROP DATABASE narrow")

    assert "createdb" in caught.value.hint


def test_missing_database_says_how_to_make_it(server: PostgresqlServer) -> None:
    with pytest.raises(DatabaseMissingError) as caught:
        open_writer(server.url.replace("/postgres?", "/nowhere?"))

    assert "createdb" in caught.value.hint


def test_second_daemon_is_refused_in_the_words_of_a_file(url: str) -> None:
    with closing(open_writer(url, sole=True)), pytest.raises(UsageError) as caught:
        open_writer(url, sole=True)

    assert caught.value.what.startswith("a daemon (pid ")
    assert f"already writes to {shown_place(url)}" in caught.value.what
    assert "--db" in caught.value.hint
    open_writer(url, sole=True).close()


def test_holder_is_the_daemon_and_nobody_after_it(url: str) -> None:
    assert lock_holder(url).pid is None

    with closing(open_writer(url, sole=True)):
        assert lock_holder(url).pid == os.getpid()

    assert lock_holder(url).pid is None


def test_lock_is_taken_again_with_the_session(url: str) -> None:
    with closing(open_writer(url, sole=True)) as connection:
        kill_sessions(url)
        with pytest.raises(DatabaseUnavailableError) as caught, writing(connection):
            pass
        assert caught.value.transient
        assert lock_holder(url).pid is None

        with writing(connection):
            connection.exec_driver_sql("INSERT INTO label (name) VALUES ('after')")

        assert lock_holder(url).pid is not None
    assert raw(url, "SELECT name FROM label") == [("after",)]


def test_daemon_whose_place_was_taken_ends(url: str) -> None:
    with closing(open_writer(url, sole=True)) as connection:
        kill_sessions(url)
        with closing(open_writer(url, sole=True)):
            with pytest.raises(DatabaseUnavailableError), writing(connection):
                pass

            with pytest.raises(DatabaseLostError, match="another daemon") as caught, writing(connection):
                pass

    assert not caught.value.transient
    assert caught.value.exit_code == 3


def test_lost_session_that_the_server_still_holds_is_ended_for_the_new_one(url: str) -> None:
    """As when a link was cut: the server does not know yet that nobody is there any more."""
    with closing(open_writer(url, sole=True)) as lost:
        with pytest.raises(DatabaseUnavailableError, match="lost session") as caught:
            lost.engine.connect()

        with closing(lost.engine.connect()) as again, writing(again):
            again.exec_driver_sql("INSERT INTO label (name) VALUES ('again')")

    assert caught.value.transient
    assert raw(url, "SELECT name FROM label") == [("again",)]


def test_writers_wait_for_each_other_and_say_so_when_it_takes_too_long(url: str) -> None:
    with (
        closing(open_writer(url, sole=True)) as daemon,
        closing(open_writer(url, busy_seconds=0.1, checkpoints=False)) as other,
        writing(daemon),
    ):
        with pytest.raises(DatabaseBusyError) as caught, writing(other):
            pass

        with closing(open_reader(url)) as reader, reading(reader):
            assert reader.exec_driver_sql("SELECT count(*) FROM file").scalar_one() == 0
    assert caught.value.transient


def test_reader_cannot_write_and_sees_one_moment(url: str) -> None:
    with closing(open_writer(url)) as writer, closing(open_reader(url)) as reader:
        with pytest.raises(DatabaseUnwritableError), writing(reader):
            reader.exec_driver_sql("INSERT INTO label (name) VALUES ('x')")

        with reading(reader):
            before = reader.exec_driver_sql("SELECT count(*) FROM label").scalar_one()
            with writing(writer):
                writer.exec_driver_sql("INSERT INTO label (name) VALUES ('y')")
            assert reader.exec_driver_sql("SELECT count(*) FROM label").scalar_one() == before
        with reading(reader):
            assert reader.exec_driver_sql("SELECT count(*) FROM label").scalar_one() == before + 1


def test_daemon_notices_what_others_commit_and_not_its_own(url: str) -> None:
    with closing(open_writer(url, sole=True)) as connection, closing(open_beside(url)) as other:
        ledger = Ledger(connection)
        assert not ledger.changed_elsewhere()

        ledger.add([version(ledger.inbox_id(b"/inbox"), b"1.png")])
        assert not ledger.changed_elsewhere()
        with pytest.raises(ZeroDivisionError), writing(other):
            raise ZeroDivisionError
        assert not ledger.changed_elsewhere()
        with writing(other):
            pass

        assert ledger.changed_elsewhere()
        assert not ledger.changed_elsewhere()


def test_transaction_that_its_server_cut_off_is_repeated_without_loss_or_double(url: str) -> None:
    with closing(open_writer(url, sole=True)) as connection:
        ledger = Ledger(connection)
        inbox_id, model_id = ledger.inbox_id(b"/inbox"), ledger.model_id(MODEL)
        first = ledger.add([version(inbox_id, b"1.png")])

        def turn() -> None:
            with ledger.transaction():
                ledger.add([version(inbox_id, b"2.png")])
                ledger.record([Outcome(first[0].file_id, TUMOUR, b"1" * 32, 5)], model_id)
                if not failed:
                    failed.append(kill_sessions(url))
                    ledger.counts()

        failed: list[int] = []
        with pytest.raises(DatabaseUnavailableError):
            turn()
        assert raw(url, "SELECT count(*) FROM file") == [(1,)]
        turn()

    assert raw(url, "SELECT count(*), count(DISTINCT id) FROM file") == [(2, 2)]
    assert raw(url, "SELECT count(*) FROM result") == [(1,)]
    assert raw(url, "SELECT sum(count) FROM tally WHERE seconds = 60") == [(1,)]


def test_commit_whose_answer_was_lost_doubles_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_writer(url, sole=True)) as connection:
        ledger = Ledger(connection)
        inbox_id, model_id = ledger.inbox_id(b"/inbox"), ledger.model_id(MODEL)
        first = ledger.add([version(inbox_id, b"1.png")])

        def turn() -> None:
            with ledger.transaction():
                ledger.add([version(inbox_id, b"2.png")])
                ledger.record([Outcome(first[0].file_id, TUMOUR, b"1" * 32, 5)], model_id)

        commit = psycopg.Connection.commit

        def commit_unanswered(driver: Any) -> None:
            commit(driver)
            driver.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(psycopg.Connection, "commit", commit_unanswered)
        with pytest.raises(DatabaseUnavailableError):
            turn()
        monkeypatch.undo()
        turn()

        pending = ledger.due(10, 1 << 60)
    assert raw(url, "SELECT count(*) FROM file") == [(2,)]
    assert raw(url, "SELECT count(*) FROM result") == [(1,)]
    assert raw(url, "SELECT sum(count) FROM tally WHERE seconds = 60") == [(1,)]
    assert [entry.version.name for entry in pending] == [b"2.png"]


def test_numbers_of_before_are_forgotten_when_the_server_came_back_with_less(url: str) -> None:
    with closing(open_writer(url, sole=True)) as connection:
        ledger = Ledger(connection)
        inbox_id = ledger.inbox_id(b"/inbox")
        ledger.add([FileVersion(inbox_id, b"folder", b"1.png", 1, 1, 1)])
        kill_sessions(url)
        raw(url, "TRUNCATE file, folder CASCADE")  # as a standby that lacks the last commits

        with pytest.raises(DatabaseUnavailableError):
            ledger.counts()
        ledger.add([FileVersion(inbox_id, b"folder", b"1.png", 1, 1, 1)])

    assert raw(url, "SELECT count(*) FROM file JOIN folder ON folder.id = folder_id") == [(1,)]


def test_commits_are_durable_whatever_the_server_is_set_to(url: str) -> None:
    assert raw(url, "SHOW synchronous_commit") == [("off",)]

    with closing(open_writer(url)) as connection, reading(connection):
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
        assert backend_of(connection).place == shown_place(url)


def test_two_databases_or_schemas_have_two_places_for_their_models(server: PostgresqlServer) -> None:
    others = (server.url.replace("/postgres?", "/other?"), f"{server.url}&options=-csearch_path%3Dtwo")

    assert len({stand_in(one) for one in (server.url, *others)}) == 3


def test_two_schemas_are_two_databases(empty: str) -> None:
    raw(empty, "CREATE SCHEMA one; CREATE SCHEMA two")
    one, two = (f"{empty}&options=-csearch_path%3D{name}" for name in ("one", "two"))

    with closing(open_writer(one, sole=True)) as first, closing(open_writer(two, sole=True)) as second:
        with writing(first), writing(second):
            second.exec_driver_sql("INSERT INTO label (name) VALUES ('x')")
        with reading(first):
            assert first.exec_driver_sql("SELECT count(*) FROM label").scalar_one() == 0


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:qu0k@ka@host/db",
        "postgresql://me:qu/0kka@host/db",
        "postgresql://me:qu?0kka@host/db",
        "postgresql://me:qu0kka %@host/db",
        "postgresql://me:qu0kka@host:1x/db?nonsense=1",
    ],
)
def test_address_that_cannot_be_read_is_one_line_without_its_password(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_writer(address)

    told = f"{caught.value} {caught.value.__cause__}"
    assert not any(part in told for part in ("qu0k", "0kka", "ka@"))
    assert "%40" in caught.value.hint


def test_a_file_needs_no_driver_of_servers(tmp_path: Path) -> None:
    program = (
        "import sys; from storage.lock import daemon_lock\n"
        "from storage.database import open_reader, open_writer\n"
        "from storage.ledger.ledger import Ledger\n"
        f"path = {str(tmp_path / 'results.db')!r}\n"
        "with daemon_lock(path):\n"
        "    Ledger(open_writer(path, sole=True)).inbox_id(b'/inbox')\n"
        "open_reader(path)\n"
        "print([name for name in sys.modules if 'psycopg' in name or name.endswith('dialects.postgresql')])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
