"""`bt-daemon db` keeps the database: path, check, backup, migrate, prune."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from storage.schema import REVISION
from tests.support.stored_results import Program, Store, judged, run_in_terminal


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results.db", tmp_path / "inbox")
    store.put([(b"%d.png" % number, judged()) for number in range(5)])
    return store


@pytest.fixture
def program(store: Store, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(store.path, capsys)


def test_path_prints_where_it_is_whether_it_is_there_or_not(store: Store, program: Program) -> None:
    assert program("db", "path").out == f"{store.path}\n"
    assert program("db", "path", "--db", "missing.db").out == f"{os.getcwd()}/missing.db\n"
    known = json.loads(program("db", "path", "--json").out)
    assert known["exists"] is True
    assert known["size_bytes"] > 4096


def test_options_of_the_whole_program_work_before_the_subcommand(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    from daemon.cli import main

    for arguments in (["--db", str(store.path), "db", "path"], ["db", "--db", str(store.path), "path"]):
        main(arguments)
        assert capsys.readouterr().out == f"{store.path}\n"


def test_check_says_ok_of_a_sound_database_and_names_each_problem(store: Store, program: Program) -> None:
    assert program("db", "check").out == "ok: 5 results of 5 file versions\n"
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DELETE FROM model")

    ran = program("db", "check")

    assert ran.code == 1
    assert "refers to a row of model that is missing" in ran.out
    assert ran.err.endswith("problems; put a backup in its place: bt-daemon db restore FILE\n")


def test_backup_is_a_whole_database_for_its_owner_only(
    store: Store, program: Program, tmp_path: Path
) -> None:
    copy = tmp_path / "backup.db"

    ran = program("db", "backup", str(copy))
    again = program("db", "backup", str(copy))

    assert ran.out.startswith(f"{copy}: ")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert program("results", "--count", "--db", str(copy)).out == "5\n"
    assert again.code == 2
    assert again.err.count("\n") == 1


def test_migrate_has_nothing_to_do_on_a_current_database(program: Program) -> None:
    assert program("db", "migrate").out == f"schema {REVISION}, nothing to do\n"


def test_prune_deletes_what_is_older_and_can_be_tried_first(program: Program) -> None:
    before = ["--before", "2026-11-24 08:00:03"]

    assert program("db", "prune", *before, "--dry-run").out.startswith(
        "2 results from before 2026-11-24 08:00:03"
    )
    assert program("results", "--count").out == "5\n"
    assert program("db", "prune", *before, "--yes").out.startswith("deleted 2 results")
    assert program("results", "--count").out == "3\n"
    assert program("db", "check").code == 0


def test_prune_asks_at_a_terminal_and_takes_no_for_an_answer(store: Store, program: Program) -> None:
    """Nothing is typed, and the end of input is no yes."""
    shown = run_in_terminal("db", "prune", "--before", "2026-11-25", "--db", str(store.path), typed=b"n\n")

    assert "Delete 5 results from before" in shown
    assert program("results", "--count").out == "5\n"


@pytest.mark.defects(27)
def test_prune_deletes_nothing_where_nobody_can_be_asked(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))

    ran = program("db", "prune", "--before", "2026-11-25")

    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "--yes" in ran.err
    assert program("results", "--count").out == "5\n"


@pytest.mark.parametrize(
    "arguments", [["prune"], ["prune", "--before", "soon"], ["backup"], ["chek"], ["migrate", "x"]]
)
def test_what_cannot_be_meant_is_one_line(program: Program, arguments: list[str]) -> None:
    ran = program("db", *arguments)

    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    "arguments", [["check"], ["migrate"], ["backup", "x.db"], ["prune", "--before", "1d", "--yes"]]
)
def test_a_database_that_is_not_there_is_not_made(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert program("db", *arguments, "--db", "missing.db").code == 3
    assert not Path("missing.db").exists()


def test_a_file_of_another_kind_is_refused_in_one_line(program: Program, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(b"this is no database" * 1000)

    for arguments in (["results"], ["db", "check"], ["status"], ["show", "1"], ["errors"]):
        ran = program(*arguments, "--db", str(other))
        assert (ran.code, ran.out, ran.err.count("\n")) == (3, "", 1)
