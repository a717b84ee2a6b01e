"""Commands on a database on a server: what they say, and that none shows its password."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemon.cli import main
from storage.database import open_writer
from storage.schema import REVISION
from tests.support.daemons import bt_daemon, running
from tests.support.databases import raw
from tests.support.postgresql_server import NoServerError, postgresql_server
from trainer.images.phantom import phantom

pytest.importorskip("psycopg", reason="needs the extra postgresql")

CANARY = "qu0kkaS3cret"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A database whose address holds a password, which the server does not ask for."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(postgresql_server())
        except NoServerError as error:
            pytest.skip(f"needs PostgreSQL: {error}")
        made = stack.enter_context(server.database())
        yield made.replace("://bt@", f"://bt:{CANARY}@")


@pytest.fixture
def shown(url: str) -> str:
    """The address as it may be shown."""
    return url.replace(CANARY, "***")


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("status", "--json"),
        ("doctor",),
        ("doctor", "--json"),
        ("results",),
        ("results", "--summary"),
        ("errors",),
        ("show", "1"),
        ("config", "show"),
        ("config", "show", "--json"),
        ("config", "check"),
        ("db", "path"),
        ("db", "path", "--json"),
        ("db", "check"),
        ("db", "migrate"),
        ("db", "migrate", "--dry-run"),
        ("db", "backup", "copy.db"),
        ("db", "restore", "copy.db"),
        ("db", "prune", "--before", "90d", "--yes"),
        ("retry", "--all"),
        ("review",),
        ("service", "install", ".", "--print"),
    ],
)
@pytest.mark.parametrize("there", [True, False], ids=["reached", "not reached"])
def test_no_command_shows_the_password(
    url: str,
    arguments: tuple[str, ...],
    there: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    address = url if there else f"postgresql://bt:{CANARY}@127.0.0.1:1/bt"

    main([*arguments, "--db", address])

    out, err = capfd.readouterr()
    assert CANARY not in out + err
    assert "Traceback" not in err


@pytest.mark.slow
def test_daemon_and_its_processes_warn_of_the_password_and_do_not_repeat_it(
    url: str, shown: str, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    phantom(1, lesion=True, size=64).save(inbox / "1.png")
    settings = {**os.environ, "BT_DB": url}

    done = bt_daemon("watch", inbox, "--once", "--lanes", "1", env=settings)
    again = bt_daemon("status", env=settings)

    told = done.stdout + done.stderr + again.stdout + again.stderr
    assert done.returncode == 0, told
    assert CANARY not in told
    assert "~/.pgpass" in done.stderr
    assert shown in again.stdout
    stored = raw(url, "SELECT snapshot FROM heartbeat")
    assert CANARY not in repr(stored)


def test_workers_are_not_told_the_password(url: str, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with running(inbox, database=url, log=tmp_path / "log") as daemon:
        children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
        lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children]

    assert lines
    assert not any(CANARY.encode() in line for line in lines)
    assert CANARY not in (tmp_path / "log").read_text()


def test_server_that_is_not_there_is_one_line_and_exit_code_3(capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["results", "--db", "postgresql://bt@127.0.0.1:1/bt"])

    err = capfd.readouterr().err
    assert code == 3
    assert err.count("\n") == 1
    assert "postgresql://bt@127.0.0.1:1/bt cannot be reached" in err
    assert "Connection refused" in err


def test_path_is_what_psql_takes(url: str, shown: str, capfd: pytest.CaptureFixture[str]) -> None:
    main(["db", "path", "--db", url])
    assert capfd.readouterr().out == f"{shown}\n"

    main(["db", "path", "--json", "--db", url])
    told = json.loads(capfd.readouterr().out)
    assert told["path"] == shown
    assert told["revision"] == REVISION
    assert told["size_bytes"] > 1_000_000


@pytest.mark.parametrize(("what", "program"), [("backup", "pg_dump"), ("restore", "pg_restore")])
def test_copies_are_made_by_the_servers_own_programs(
    url: str, what: str, program: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code = main(["db", what, "copy.db", "--db", url])

    assert code == 2
    assert program in capfd.readouterr().err


def test_check_compares_the_tallies_with_the_rows(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    raw(url, "INSERT INTO tally VALUES (60, 0, 1, 1, 0, 0, 1)")
    try:
        assert main(["db", "check", "--db", url]) == 1
    finally:
        raw(url, "DELETE FROM tally WHERE start_us = 0")

    assert "the tallies of 60 s count" in capfd.readouterr().out


def test_doctor_tells_of_the_server_and_of_the_daemon_on_it(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    connection = open_writer(url, sole=True)
    try:
        main(["doctor", "--json", "--db", url])
    finally:
        connection.close()

    found = [one for one in json.loads(capfd.readouterr().out)["findings"] if one["check"] == "database"]
    facts = " | ".join(one["fact"] for one in found)
    assert facts.startswith("PostgreSQL ")
    assert "fsync, full_page_writes is off" in facts
    assert f"a daemon (pid {os.getpid()}) writes to it" in facts


def test_unit_of_a_service_holds_no_password_but_the_address(
    url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["service", "install", str(tmp_path), "--print", "--db", url]) == 2
    assert "~/.pgpass" in capfd.readouterr().err

    assert main(["service", "install", str(tmp_path), "--print", "--db", "postgresql://db.example/bt"]) == 0
    assert "--db postgresql://db.example/bt" in capfd.readouterr().out
