"""`bt-daemon doctor` looks at the real machine, says what is wrong and what to do."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from daemon.cli import main
from daemon.doctor import engine_check as model
from daemon.doctor import machine, places
from daemon.doctor.examination import CHECKS, examine
from daemon.doctor.finding import Finding, Level, Surroundings
from tests.conftest import REPOSITORY
from trainer.model.spec import ModelSpec
from trainer.model.weights import write_weights


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    write_weights(path, ModelSpec("tiny", "1", "cnn", ("no", "yes")), {})
    return path


@pytest.fixture
def around(tmp_path: Path, weights: Path) -> Surroundings:
    settings = Settings(weights=str(weights), cache=str(tmp_path / "cache"))
    return Surroundings(settings, tmp_path / "data" / "results.db", ())


def _of(findings: list[Finding], check: str) -> Finding:
    return next(finding for finding in findings if finding.check == check)


def test_a_sound_machine_is_healthy_and_every_check_speaks(around: Surroundings) -> None:
    findings = list(examine(around))

    assert {finding.check for finding in findings} == {name for name, _ in CHECKS} - {"inbox"}
    assert [finding for finding in findings if finding.level is Level.FAIL] == []
    assert not around.database.parent.exists(), "a doctor leaves nothing behind"


def test_the_command_ends_with_0_when_healthy_and_1_when_not(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["doctor", "--db", str(tmp_path / "x.db"), "--weights", str(weights), "--json"]

    healthy = main([*arguments, str(tmp_path)])
    told = json.loads(capsys.readouterr().out)
    unhealthy = main([*arguments, str(tmp_path / "missing")])
    found = json.loads(capsys.readouterr().out)

    assert (healthy, unhealthy) == (0, 1)
    assert told["healthy"] is True
    assert found["healthy"] is False
    assert [finding for finding in found["findings"] if finding["level"] == "fail"] == [
        {
            "check": "inbox",
            "level": "fail",
            "fact": f"{tmp_path}/missing is not a folder",
            "advice": f"mkdir -p {tmp_path}/missing",
        }
    ]


def test_the_text_says_what_to_do_below_what_is_wrong(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["doctor", str(tmp_path / "missing"), "--db", str(tmp_path / "x.db"), "--weights", str(weights)])

    lines = capsys.readouterr().out.splitlines()
    wrong = next(number for number, line in enumerate(lines) if line.startswith("fail"))
    assert "is not a folder" in lines[wrong]
    assert lines[wrong + 1].strip().startswith("-> mkdir -p")
    assert lines[-1].startswith("Unhealthy: 1 to mend")


def test_an_old_sqlite_is_told_but_does_not_make_the_machine_unhealthy(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    old = list(places.sqlite(around))
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    new = list(places.sqlite(around))

    assert old[0][0] is Level.WARN
    assert "3.51.3" in old[0][1]
    assert new[0][0] is Level.OK


def test_a_network_file_system_is_refused_for_the_database_and_told_for_an_inbox(
    around: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "filesystem_of", lambda path: "nfs4")
    with_inbox = Surroundings(around.settings, around.database, [tmp_path])

    assert next(places.database_place(around))[0] is Level.FAIL
    level, fact, _ = next(places.inboxes(with_inbox))
    assert level is Level.WARN
    assert "polled" in fact


def test_an_unreadable_or_foreign_database_is_a_finding_with_the_next_step(around: Surroundings) -> None:
    around.database.parent.mkdir()
    around.database.write_bytes(b"this is no database" * 100)

    finding = _of(list(examine(around)), "database")

    assert finding.level is Level.FAIL
    assert "is not a database" in finding.fact
    assert finding.advice


def test_weights_that_cannot_be_read_are_a_finding(around: Surroundings, weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-3])

    finding = _of(list(examine(around)), "weights")

    assert finding.level is Level.FAIL
    assert str(weights) in finding.fact


def test_a_device_that_is_not_there_is_a_finding_only_if_asked_for(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_cuda_devices", lambda: 0)
    wants = Surroundings(Settings(device="cuda:0"), around.database, ())

    assert [level for level, *_ in model.engine(around)] == [Level.OK, Level.OK]
    assert [level for level, *_ in model.engine(wants)] == [Level.OK, Level.FAIL]


@pytest.mark.parametrize(
    ("free", "level"), [(10 << 30, Level.OK), (500 << 20, Level.WARN), (1 << 20, Level.FAIL)]
)
def test_little_room_is_told(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch, free: int, level: Level
) -> None:
    class Usage:
        pass

    usage: Any = Usage()
    usage.free = free
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    assert {found[0] for found in places.disk(around)} == {level}


def test_too_few_watches_for_the_folders_are_told(
    around: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = tmp_path / "inotify"
    limits.mkdir()
    for name in ("max_user_watches", "max_user_instances", "max_queued_events"):
        (limits / name).write_text("3\n")
    inbox = tmp_path / "inbox"
    (inbox / "a" / "b" / "c").mkdir(parents=True)
    monkeypatch.setattr(machine, "INOTIFY", limits)

    found = list(machine.inotify(Surroundings(around.settings, around.database, [inbox])))

    assert found[0][0] is Level.WARN
    assert "4 folders" in found[0][1]
    assert found[0][2].startswith("sysctl fs.inotify.max_user_watches=")


def test_a_cache_that_cannot_be_written_is_told(around: Surroundings, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")

    assert next(places.cache(around))[0] is Level.WARN


def test_a_clock_that_was_never_set_is_a_finding(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 3600.0)

    assert next(machine.clock(around))[0] is Level.FAIL


def test_a_check_that_fails_unforeseen_is_itself_a_finding(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Surroundings) -> Any:
        raise RuntimeError("boom\x1b[31m")

    monkeypatch.setattr("daemon.doctor.examination.CHECKS", (("probe", broken),))

    assert list(examine(around)) == [
        Finding("probe", Level.FAIL, "RuntimeError: boom\\x1b[31m", "please report this")
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_a_finding(tmp_path: Path, around: Surroundings) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)

    level, fact, _ = next(places.inboxes(Surroundings(around.settings, around.database, [closed])))

    assert level is Level.FAIL
    assert "cannot be read" in fact


def test_openvino_is_imported_without_reporting_its_use_over_the_network() -> None:
    code = (
        "import threading; from trainer.model.openvino_import import openvino_without_telemetry as load;"
        "load(); print([thread.name for thread in threading.enumerate()])"
    )

    command = [sys.executable, "-c", code]

    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)

    assert out.stdout == "['MainThread']\n"
