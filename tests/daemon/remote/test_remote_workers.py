"""Workers that join a daemon: what they judge is what the daemon itself would, and nothing gets lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.daemons import bt_daemon, count, rows, running, until
from tests.support.remote_workers import draw_images, free_port, remote_worker, wait_until_listening

pytestmark = pytest.mark.slow

# What differs between two runs over the same images.
_OWN = {"id", "time", "duration_us"}


@pytest.fixture
def head() -> str:
    return f"tcp://127.0.0.1:{free_port()}"


def test_a_worker_answers_row_by_row_what_the_daemon_itself_does(tmp_path: Path, head: str) -> None:
    inbox = draw_images(tmp_path / "inbox", 40)
    (inbox / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (inbox / "text.png").write_text("no picture")
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"

    done = bt_daemon("watch", inbox, "--once", "--db", ours, "--lanes", "1", "--deadline", "1s")
    with (
        remote_worker(head, log=tmp_path / "worker.log") as worker,
        running(
            inbox, "--once", "--workers", head, "--lanes", "none", "--deadline", "1s",
            database=theirs, watching=False,
        ) as daemon,
    ):  # fmt: skip
        code = daemon.process.wait(60)
        left = worker.stop()

    assert (done.returncode, code, left) == (0, 0, 0)
    assert _judged(theirs) == _judged(ours)
    assert len(_judged(ours)) == 42
    assert "left" in worker.said


def test_local_and_remote_lanes_share_the_work(tmp_path: Path, head: str) -> None:
    inbox, database = draw_images(tmp_path / "inbox", 8), tmp_path / "results.db"
    with (
        running(inbox, "--workers", head, "--lanes", "1", database=database) as daemon,
        remote_worker(head, log=tmp_path / "worker.log") as worker,
    ):
        worker.wait_until_joined()
        draw_images(tmp_path / "more", 300)
        for path in (tmp_path / "more").iterdir():
            path.rename(inbox / f"more-{path.name}")
        until(lambda: count(database) == 308)
        judged = psutil.Process(worker.process.pid).children()[0].cpu_times().user

    assert judged > 0.1
    assert "worker" in daemon.log.read_text()


def test_a_killed_worker_costs_no_image_and_none_is_stored_twice(tmp_path: Path, head: str) -> None:
    inbox, database = draw_images(tmp_path / "inbox", 600), tmp_path / "results.db"
    with (
        running(inbox, "--workers", head, "--lanes", "none", database=database, watching=False) as daemon,
        remote_worker(head, log=tmp_path / "one.log") as one,
        remote_worker(head, log=tmp_path / "two.log") as two,
    ):
        one.wait_until_joined()
        two.wait_until_joined()
        until(lambda: count(database) > 0)
        one.kill()
        until(lambda: count(database) == 600)
        log = daemon.log.read_text()

    assert len({row["path"] for row in rows(database)}) == 600
    assert all(row["status"] != "error" for row in rows(database))
    assert "left; its" in log


def test_a_worker_that_is_told_to_stop_finishes_what_it_has(tmp_path: Path, head: str) -> None:
    inbox, database = draw_images(tmp_path / "inbox", 300), tmp_path / "results.db"
    with (
        running(inbox, "--workers", head, "--lanes", "none", database=database, watching=False) as daemon,
        remote_worker(head, log=tmp_path / "worker.log") as worker,
    ):
        until(lambda: count(database) > 0)
        code = worker.stop()
        until(lambda: "left" in daemon.log.read_text())
        log = daemon.log.read_text()

    assert code == 0
    assert "go to others" not in log  # it had answered everything
    assert "Traceback" not in worker.said + log


def test_a_killed_bridge_is_started_again_and_the_worker_joins_it(tmp_path: Path, head: str) -> None:
    inbox, database = draw_images(tmp_path / "inbox", 300), tmp_path / "results.db"
    with (
        running(inbox, "--workers", head, "--lanes", "none", database=database, watching=False) as daemon,
        remote_worker(head, log=tmp_path / "worker.log") as worker,
    ):
        until(lambda: count(database) > 0)
        (bridge,) = psutil.Process(daemon.process.pid).children()
        bridge.kill()
        until(lambda: count(database) == 300)
        worker.wait_until_joined(2)
        log = daemon.log.read_text()

    assert "the process that speaks to workers was lost (SIGKILL); no image is lost" in log
    assert "Traceback" not in worker.said + log
    assert len(rows(database)) == 300


def test_a_bridge_that_hangs_holds_up_no_daemon(tmp_path: Path, head: str) -> None:
    inbox, database = draw_images(tmp_path / "inbox", 1), tmp_path / "results.db"
    with running(inbox, "--workers", head, "--lanes", "1", database=database) as daemon:
        wait_until_listening(daemon)
        bridge = next(
            child
            for child in psutil.Process(daemon.process.pid).children()
            if any("bridge_main" in word for word in child.cmdline())
        )
        bridge.suspend()
        draw_images(tmp_path / "more", 20)
        for path in (tmp_path / "more").iterdir():
            path.rename(inbox / f"more-{path.name}")
        until(lambda: count(database) == 21, 10)
        until(lambda: "speaks to workers was lost (it hung)" in daemon.log.read_text())


def test_workers_join_again_when_a_killed_daemon_is_back(tmp_path: Path, head: str) -> None:
    inbox, database = draw_images(tmp_path / "inbox", 400), tmp_path / "results.db"
    arguments: list[Any] = [inbox, "--workers", head, "--lanes", "none"]
    with remote_worker(head, log=tmp_path / "worker.log") as worker:
        with running(*arguments, database=database, watching=False) as daemon:
            until(lambda: count(database) > 0)
            daemon.kill()
        with running(*arguments, database=database, watching=False):
            until(lambda: count(database) == 400)
            worker.wait_until_joined(2)

    found = rows(database)
    assert len({row["path"] for row in found}) == len(found) == 400
    assert "cannot be joined" in worker.said or worker.said.count("joined") >= 2
    assert "Traceback" not in worker.said


def test_an_image_that_crashes_the_decoder_of_a_worker_costs_itself_only(
    tmp_path: Path, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, database = draw_images(tmp_path / "inbox", 20), tmp_path / "results.db"
    (inbox / "guilty.png").write_bytes(b"CRASH")
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    (hostile / "sitecustomize.py").write_text(
        "import os, signal, trainer.images.decode\n"
        "decode = trainer.images.decode.decode\n"
        "def crash(data, *rest, **options):\n"
        "    if data.startswith(b'CRASH'): os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return decode(data, *rest, **options)\n"
        "trainer.images.decode.decode = crash\n"
    )
    with running(
        inbox, "--workers", head, "--lanes", "none", "--once", database=database, watching=False
    ) as daemon:
        monkeypatch.setenv("PYTHONPATH", f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{hostile}")
        with remote_worker(head, log=tmp_path / "worker.log"):
            code = daemon.process.wait(90)

    errors = [row for row in rows(database) if row["status"] == "error"]
    assert code == 0
    assert [row["reason"] for row in errors] == ["crashed the decoder (SIGSEGV)"]
    assert len(rows(database)) == 21


def test_a_worker_that_stops_answering_loses_its_batches_to_another(tmp_path: Path, head: str) -> None:
    """Stopped as a machine that no longer answers is: its connections stay open."""
    inbox, database = draw_images(tmp_path / "inbox", 400), tmp_path / "results.db"
    with (
        running(inbox, "--workers", head, "--lanes", "none", database=database, watching=False) as daemon,
        remote_worker(head, log=tmp_path / "one.log") as one,
        remote_worker(head, log=tmp_path / "two.log") as two,
    ):
        one.wait_until_joined()
        two.wait_until_joined()
        until(lambda: count(database) > 0)
        os.killpg(one.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        until(lambda: count(database) == 400)
        silence = time.monotonic() - began
        os.killpg(one.process.pid, signal.SIGCONT)
        one.wait_until_joined(2)  # what it answers now comes late, and is dropped
        time.sleep(1)
        log = daemon.log.read_text()

    assert silence < 30
    assert len(rows(database)) == 400
    assert "Traceback" not in log + one.said


def _judged(database: Path) -> list[dict[str, Any]]:
    told = [{name: value for name, value in row.items() if name not in _OWN} for row in rows(database)]
    return sorted(told, key=lambda row: str(row["path"]))
