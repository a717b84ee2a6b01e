"""`bt-daemon status` tells whether a daemon works on the database, how it is, or how it ended."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest

from daemon.cli import main
from storage.database import open_writer, writing
from storage.ledger.heartbeat import Heartbeat, store_heartbeat
from storage.lock import DatabaseLock
from storage.records import Failed, FailureKind
from storage.schema import MoveState
from tests.support.daemons import running, until
from tests.support.databases import Target, daemon_lock_held, raw
from tests.support.stored_results import MODEL, Clock, Program, Store, judged, run_in_terminal, run_piped

pytestmark = pytest.mark.databases

WATCHING = {
    "path": "/data/in\\xff",
    "state": "watching",
    "why": "",
    "waiting": 0,
    "found_by_scan_only": 3,
    "overflows": 0,
    "odd_entries": 0,
}
POLLING = {
    "path": "/mnt/pacs",
    "state": "polling",
    "why": "nfs4 raises no events",
    "waiting": 2,
    "found_by_scan_only": 39,
    "overflows": 0,
    "odd_entries": 0,
}
SNAPSHOT: dict[str, Any] = {
    "engine": {
        "name": "openvino",
        "precision": "bf16",
        "device": "cpu",
        "why": "bf16 is native to this CPU",
    },
    "model": {"name": "brain-mri", "version": "1.0", "weights_sha256": MODEL.weights_sha256},
    "inboxes": [WATCHING, POLLING],
    "lane_restarts": 2,
    "trouble": "",
    "last_error": "busy.png: Permission denied",
}


def _now_us() -> int:
    return time.time_ns() // 1000


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def store(database: Target, tmp_path: Path) -> Store:
    """Results that were made just now."""
    return Store(database, tmp_path / "inbox", Clock(_now_us() - 10_000_000))


@pytest.fixture
def program(store: Store, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(store.path, capsys)


def _beat(
    store: Store, *, age: float = 0, pid: int | None = None, stopped: bool = False, snapshot: Any = None
) -> None:
    """Write what a daemon said `age` seconds ago, an hour after it started."""
    at_us = _now_us() - int(age * 1e6)
    if snapshot is None:
        inboxes = [inbox | {"last_scan_us": at_us - 7_000_000} for inbox in SNAPSHOT["inboxes"]]
        snapshot = SNAPSHOT | {"inboxes": inboxes}
    started_us, stopped_us = at_us - 3_600_000_000, at_us if stopped else None
    beat = Heartbeat("host", pid or os.getpid(), started_us, at_us, stopped_us, snapshot)
    with closing(open_writer(store.path)) as connection, writing(connection):
        store_heartbeat(connection, beat)


def test_a_running_daemon_is_told_with_all_an_operator_asks(store: Store, program: Program) -> None:
    store.put([(b"%d.png" % number, judged()) for number in range(6)])
    store.put([(b"letter.jpg", Failed(FailureKind.PERMANENT, "not an image"))])
    store.put([(b"busy.png", Failed(FailureKind.TRANSIENT, "Permission denied"))])
    _beat(store)

    with daemon_lock_held(store.path):
        told = json.loads(program("status", "--json").out)
        text = program("status").out

    assert (
        told.items()
        >= {
            "running": True,
            "state": "running",
            "pid": os.getpid(),
            "host": "host",
            "stopped": None,
            "database": str(store.path),
            "engine": SNAPSHOT["engine"],
            "model": SNAPSHOT["model"],
            "results": 7,
            "by_status": {"ok": 6, "error": 1},
            "images_per_second": round(7 / 60, 2),
            "pending": 1,
            "retrying": 1,
            "quarantined": 1,
            "moves_due": 0,
            "move_troubles": {},
            "found_by_scan_only": 42,
            "last_error": "busy.png: Permission denied",
        }.items()
    )
    assert 7 <= told["last_scan_seconds"] < 60
    assert 0 <= told["oldest_pending_seconds"] < 60
    assert [inbox["state"] for inbox in told["inboxes"]] == ["watching", "polling"]
    assert text.startswith("running since 20")
    for words in (
        "brain-mri 1.0 a1b2c3d4",
        "openvino bf16 on cpu: bf16 is native to this CPU",
        "7 (6 ok, 1 error)",
        "1, 1 of them for another try; the oldest for",
        "1 (see bt-daemon errors)",
        "inbox /data/in\\xff",
        "inbox /mnt/pacs",
        "2 files that are not known to be complete",
        "2 replaced after a crash",
        "polling: nfs4 raises no events",
        "39 images that no event had announced",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("age", "state", "words"),
    [(1, "running", "running since"), (60, "silent", r"but silent for 6\d s: busy or stuck")],
)
@pytest.mark.databases("sqlite")
def test_of_a_living_daemon_the_heartbeat_says_how_it_is(
    store: Store, program: Program, age: float, state: str, words: str
) -> None:
    _beat(store, age=age)

    with daemon_lock_held(store.path):
        told = json.loads(program("status", "--json").out)
        text = program("status").out

    assert (told["state"], told["running"], told["pid"]) == (state, True, os.getpid())
    assert re.search(words, text.splitlines()[0])


@pytest.mark.parametrize(
    ("beat", "state", "words"),
    [
        ({"age": 60, "stopped": True}, "stopped", "not running; ended 20"),
        ({"age": 600}, "died", "10 min ago; ended without saying goodbye"),
        ({"age": 1}, "died", "ended without saying goodbye"),
    ],
)
def test_of_a_daemon_that_is_gone_the_heartbeat_says_how_it_ended(
    store: Store, program: Program, beat: dict[str, Any], state: str, words: str
) -> None:
    _beat(store, **beat)

    told = json.loads(program("status", "--json").out)
    text = program("status").out

    assert (told["state"], told["running"], told["pid"]) == (state, False, None)
    assert re.search(r"\n    was +watching\n", text)
    assert words in text.splitlines()[0]


def test_the_speed_of_a_young_daemon_is_its_mean_since_it_started(store: Store, program: Program) -> None:
    store.put([(b"%d.png" % number, judged()) for number in range(5)])
    with closing(open_writer(store.path)) as connection, writing(connection):
        now_us = _now_us()
        store_heartbeat(connection, Heartbeat("host", os.getpid(), now_us - 5_000_000, now_us, None, {}))

    with daemon_lock_held(store.path):
        told = json.loads(program("status", "--json").out)

    assert 0.2 < told["images_per_second"] <= 1


def test_a_daemon_that_has_not_reported_yet_is_starting(store: Store, program: Program) -> None:
    _beat(store, age=5, pid=1, stopped=True)

    with daemon_lock_held(store.path):
        assert json.loads(program("status", "--json").out)["state"] == "starting"


def test_a_database_no_daemon_ever_worked_on_says_so(store: Store, program: Program) -> None:
    store.put([(b"a.png", judged())])

    ran = program("status")

    assert ran.code == 0
    assert ran.out.startswith("not running; none ever ran on this database\n")
    assert json.loads(program("status", "--json").out)["inboxes"] == []


def test_without_a_database_of_ones_own_status_says_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["status"])

    assert code == 0
    assert "none yet; start with bt-daemon watch DIR" in capsys.readouterr().out
    assert main(["status", "--db", "missing.db"]) == 3


def test_a_clock_that_was_set_back_makes_no_negative_ages(store: Store, program: Program) -> None:
    _beat(store, age=-86_400)

    with daemon_lock_held(store.path):
        told = json.loads(program("status", "--json").out)

    assert told["state"] == "running"
    assert told["last_scan_seconds"] == 0


@pytest.mark.parametrize("snapshot", [{}, {"inboxes": None}, {"inboxes": ["x"], "engine": "torch\x1b[31m"}])
def test_a_snapshot_of_another_version_is_shown_as_far_as_it_goes(
    store: Store, program: Program, snapshot: dict[str, Any]
) -> None:
    _beat(store, snapshot=snapshot | {"inboxes": []})
    with closing(open_writer(store.path)) as connection, writing(connection):
        beat = Heartbeat("host", os.getpid(), 1, _now_us(), None, snapshot)
        store_heartbeat(connection, beat)

    assert program("status").code == 0
    assert "\x1b" not in program("status").out
    assert json.loads(program("status", "--json").out)["inboxes"] == []


@pytest.mark.slow
def test_status_at_a_terminal_is_coloured_by_how_it_is(store: Store) -> None:
    _beat(store, age=600)

    shown = run_in_terminal("status", "--db", str(store.path))

    assert shown.startswith("\x1b[31m\x1b[1mnot running; last seen")
    assert "\x1b" not in run_in_terminal("status", "--db", str(store.path), environ={"NO_COLOR": "1"})


@pytest.mark.defects(17)
@pytest.mark.databases("sqlite")
def test_a_daemon_whose_disk_is_full_says_so_though_it_can_store_nothing(
    store: Store, program: Program
) -> None:
    _beat(store)

    with DatabaseLock(store.file) as lock:
        lock.tell("the database r.db cannot grow: the disk is full; make room on that disk")
        told = json.loads(program("status", "--json").out)
        text = program("status").out

    assert told["trouble"] == "the database r.db cannot grow: the disk is full; make room on that disk"
    assert "the disk is full" in text


def _degraded(**told: Any) -> dict[str, Any]:
    return SNAPSHOT | {"inboxes": []} | told


@pytest.mark.defects(32)
@pytest.mark.parametrize(
    ("beat", "locked", "code", "line"),
    [
        ({"age": 1}, True, 0, r"healthy: running since 20.* \(pid \d+\)"),
        ({"age": 60}, True, 2, r"down: running \(pid \d+\), but silent for 6\d s: busy or stuck"),
        ({"age": 1, "pid": 1, "stopped": True}, True, 1, r"degraded: starting .*: nothing is judged yet"),
        ({"age": 60, "stopped": True}, False, 2, r"down: not running; ended 20.*"),
        ({"age": 600}, False, 2, r"down: not running; last seen .*; ended without saying goodbye"),
        (
            {"snapshot": _degraded(inboxes=[WATCHING | {"state": "degraded", "why": "gone\x1b"}])},
            True, 1, r"degraded: inbox /data/in\\xff is degraded: gone\\x1b",
        ),
        (
            {"snapshot": _degraded(trouble="database or disk is full", lane_replaced_us="now")},
            True, 1, r"degraded: database or disk is full; lanes are being replaced, 2 so far",
        ),
        ({"snapshot": _degraded(inboxes=[POLLING], lane_replaced_us=1)}, True, 0, "healthy: running .*"),
        (
            {"age": 60, "snapshot": _degraded(trouble="database or disk is full")},
            True, 2, r"down: running .* silent for 6\d s: busy or stuck; database or disk is full",
        ),
    ],
)  # fmt: skip
@pytest.mark.databases("sqlite")
def test_check_says_in_one_line_and_by_its_exit_code_how_the_daemon_is(
    store: Store, program: Program, beat: dict[str, Any], locked: bool, code: int, line: str
) -> None:
    if beat.get("snapshot", {}).get("lane_replaced_us") == "now":  # of the test, not of when it was collected
        beat = beat | {"snapshot": beat["snapshot"] | {"lane_replaced_us": _now_us()}}
    _beat(store, **beat)

    with daemon_lock_held(store.path) if locked else nullcontext():
        ran, plain, as_json = program("status", "--check"), program("status"), program("status", "--json")

    assert ran.code == code
    assert re.fullmatch(line + "\n", ran.out)
    assert (plain.code, as_json.code) == (0, 0)
    told = json.loads(as_json.out)
    same = f"{told['health']}: {'; '.join(told['reasons'])}\n"
    assert re.sub(r"6\d s", "60 s", ran.out) == re.sub(r"6\d s", "60 s", same)  # a second may pass between


def test_workers_that_hang_or_are_not_ready_and_images_that_differ_are_told(
    store: Store, program: Program
) -> None:
    findings = {
        "distance": {"state": "not known", "images": 0, "index": None},
        "rejected": {"state": "drift", "images": 900, "index": 0.4, "share": 0.25, "expected": 0.025},
    }
    workers = {"wanted": 4, "ready": 0, "stuck": 2}
    _beat(store, snapshot=_degraded(workers=workers, drift={"findings": findings, "memory": {"blocks": [7]}}))

    with daemon_lock_held(store.path):
        ran, text, as_json = program("status", "--check"), program("status").out, program("status", "--json")

    wrong = "no worker process is ready: nothing is judged; 2 of 4 workers make no progress on their files"
    assert (ran.code, ran.out) == (1, f"degraded: {wrong}\n")
    assert re.search(rf"health +degraded: {re.escape(wrong)}", text)
    drift = (
        "distance: not known; rejected: drift (25.0%, expected 2.5%, index 0.40); of the latest 900 images"
    )
    assert re.search(rf"drift +{re.escape(drift)}", text)
    told = json.loads(as_json.out)
    assert told["drift"] == findings
    assert "drift" not in told["reported"]


@pytest.mark.databases("sqlite")
def test_a_loop_that_turns_is_known_though_the_database_takes_no_heartbeat(
    store: Store, program: Program
) -> None:
    _beat(store, age=60)

    with DatabaseLock(store.file) as lock:
        lock.tell("", _now_us())
        turning = program("status", "--check")
        lock.tell("", _now_us() - 30_000_000)
        hanging = program("status", "--check")

    late = "degraded: the daemon works, and its reports do not reach the database\n"
    assert (turning.code, turning.out) == (1, late)
    assert hanging.code == 2


@pytest.mark.defects(32)
def test_check_tells_of_moves_that_are_stuck(store: Store, program: Program) -> None:
    (file_id, _) = store.put([(b"a.png", judged()), (b"b.png", judged())])
    _beat(store)
    raw(store.path, f"UPDATE file SET move = {int(MoveState.DUE)}")
    stuck = "move_attempts = 1, move_trouble = 'No space left on device'"
    raw(store.path, f"UPDATE file SET {stuck} WHERE id = {file_id}")

    with daemon_lock_held(store.path):
        ran = program("status", "--check")

    assert (ran.code, ran.out) == (1, "degraded: 1 moves are stuck (No space left on device)\n")


@pytest.mark.defects(32)
def test_check_of_a_database_that_is_not_there_is_down_and_of_a_damaged_one_is_neither(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "damaged.db").write_bytes(b"no database" * 1000)

    codes = [
        main(["status", "--check", *options])
        for options in ([], ["--db", str(tmp_path / "none.db")], ["--db", str(tmp_path / "damaged.db")])
    ]

    out, err = capsys.readouterr()
    assert codes == [2, 2, 3]
    assert out == "down: not running; none ever ran on this database\n" * 2
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.defects(32)
def test_check_follows_a_real_daemon_from_its_start_to_its_death(
    database: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    here = Program(database, capsys)  # asked again and again: a process each time would take a core

    def check() -> tuple[int, str]:
        ran = run_piped("status", "--check", "--db", str(database))
        return ran.returncode, ran.stdout

    with running(inbox, database=database, log=tmp_path / "log") as daemon:
        until(lambda: here("status", "--check").code == 0)
        assert check()[0] == 0
        inbox.rename(tmp_path / "away")
        until(lambda: here("status", "--check").code == 1)
        code, line = check()
        assert code == 1
        assert line.startswith(f"degraded: inbox {inbox} is degraded: ")
        (tmp_path / "away").rename(inbox)
        until(lambda: here("status", "--check").code == 0)
        assert check()[0] == 0
        daemon.kill()
        assert check()[0] == 2
