"""Joining: a worker is let in, or refused in one line that says why, on both sides."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import Daemon, bt_daemon, count, running, until
from tests.support.models import own_model
from tests.support.remote_workers import (
    RemoteProcess,
    draw_images,
    free_port,
    remote_worker,
    wait_until_listening,
)

pytestmark = pytest.mark.slow

_VERSION = "import daemon.version; daemon.version.program_version = lambda: '9.9'"
_PROTOCOL = "import daemon.remote.terms; daemon.remote.terms.PROTOCOL = 7"
_OTHER_ENGINE = """
import dataclasses, daemon.engines.cache as cache
prepare = cache.prepare_engine
def other(*arguments):
    prepared, spec = prepare(*arguments)
    return dataclasses.replace(prepared, {change}), spec
cache.prepare_engine = other
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Iterator[tuple[Daemon, str]]:
    """A daemon that only workers judge for; it refuses, so that it can be shared."""
    folder = tmp_path_factory.mktemp("head")
    head = f"tcp://127.0.0.1:{free_port()}"
    inbox = draw_images(folder / "inbox", 1)
    os.environ["BT_CACHE"] = str(engine_cache)
    arguments = (inbox, "--workers", head, "--lanes", "none", "--precision", "fp32")
    with running(*arguments, database=folder / "results.db", watching=False) as one:
        wait_until_listening(one)
        yield one, head


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (_VERSION, "its bt-daemon is 9.9, the daemon's"),
        (_PROTOCOL, "it speaks protocol 7, the daemon 1"),
        (_OTHER_ENGINE.format(change="kind='torch'"), "its engine is torch, the daemon's openvino"),
        (_OTHER_ENGINE.format(change="precision='bf16'"), "its precision is bf16, the daemon's fp32"),
        (_OTHER_ENGINE.format(change="device='cuda:0'"), "its device is cuda, the daemon's cpu"),
        (_OTHER_ENGINE.format(change="weights_sha256='ab' * 32"), "its weights is abababab, the daemon's"),
    ],
    ids=["version", "protocol", "engine", "precision", "device", "weights"],
)  # fmt: skip
def test_a_worker_that_would_answer_otherwise_is_refused_in_one_line_on_both_sides(
    daemon: tuple[Daemon, str], tmp_path: Path, before: str, why: str
) -> None:
    head_process, head = daemon

    with remote_worker(head, log=tmp_path / "worker.log", before=before) as worker:
        code = worker.wait()

    assert code == 6
    (line,) = [one for one in worker.said.splitlines() if one.startswith("bt-daemon:")]
    assert line.startswith(f"bt-daemon: refused by {head}: {why}")
    assert "Traceback" not in worker.said
    until(lambda: f"was refused: {why}" in head_process.log.read_text())
    status = bt_daemon("status", "--json", "--db", head_process.database)
    until(lambda: why in bt_daemon("status", "--db", head_process.database).stdout)
    assert json.loads(status.stdout)["running"]
    assert count(head_process.database) == 0


def test_of_a_worker_that_cannot_compute_the_daemon_tells_why(
    daemon: tuple[Daemon, str], tmp_path: Path
) -> None:
    head_process, head = daemon

    with remote_worker(head, "--device", "cuda:99", log=tmp_path / "worker.log") as worker:
        code = worker.wait()

    assert code == 5
    why = "it cannot compute there: there is no CUDA device 99 here"
    until(lambda: f"was refused: {why}" in head_process.log.read_text())
    until(lambda: why in bt_daemon("status", "--db", head_process.database).stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="another folder under the same path takes a mount of one's own")
def test_a_worker_that_sees_another_folder_at_the_inboxs_path_is_refused(
    daemon: tuple[Daemon, str], tmp_path: Path
) -> None:
    head_process, head = daemon
    inbox = head_process.database.parent / "inbox"
    copy = draw_images(tmp_path / "copy", 1)
    mount = (
        "import ctypes, os, subprocess\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.unshare(0x00020000) == 0, ctypes.get_errno()\n"
        "subprocess.run(['mount', '--make-rprivate', '/'], check=True)\n"
        f"subprocess.run(['mount', '--bind', {str(copy)!r}, {str(inbox)!r}], check=True)"
    )

    with remote_worker(head, log=tmp_path / "worker.log", before=mount) as worker:
        code = worker.wait()

    assert code == 6, worker.said
    assert f"{inbox} is another folder there, or its files cannot be read" in worker.said
    assert [path.name for path in inbox.iterdir()] == ["0000.png"]  # the probe is gone


def test_a_worker_that_may_wait_for_so_long_only_leaves_when_no_daemon_comes(tmp_path: Path) -> None:
    head = f"tcp://127.0.0.1:{free_port()}"

    with remote_worker(head, "--leave-after", "1s", log=tmp_path / "worker.log") as worker:
        code = worker.wait()

    assert code == 6
    (line,) = [one for one in worker.said.splitlines() if one.startswith("bt-daemon:")]
    assert line.startswith(f"bt-daemon: {head} could not be joined for 1 s")


def test_a_worker_that_may_wait_for_so_long_only_leaves_when_its_daemon_has_ended(
    tmp_path: Path, engine_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BT_CACHE", str(engine_cache))
    head, database = f"tcp://127.0.0.1:{free_port()}", tmp_path / "results.db"
    inbox = draw_images(tmp_path / "inbox", 4)
    arguments = (inbox, "--workers", head, "--lanes", "none", "--precision", "fp32")

    with remote_worker(head, "--leave-after", "5m", log=tmp_path / "patient.log") as patient:
        with running(*arguments, database=database, watching=False) as daemon:
            wait_until_listening(daemon)
            with remote_worker(head, "--leave-after", "1s", log=tmp_path / "worker.log") as worker:
                worker.wait_until_joined()
                patient.wait_until_joined()
                until(lambda: count(database) == 4)
                joined_for_longer = worker.process.poll() is None
                daemon.process.terminate()
                code = worker.wait()
        still_there = patient.process.poll() is None

    assert joined_for_longer
    assert code == 0, worker.said
    assert f"{head} has been away for 1 s" in worker.said
    assert still_there


def test_weights_that_a_worker_lacks_come_from_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = own_model(tmp_path / "own.safetensors")
    head, database = f"tcp://127.0.0.1:{free_port()}", tmp_path / "results.db"
    inbox, cache = draw_images(tmp_path / "inbox", 10), tmp_path / "cache"

    arguments = (inbox, "--weights", model, "--workers", head, "--lanes", "none", "--once")
    with (
        running(*arguments, database=database, watching=False) as one,
        remote_worker(head, "--cache", cache, log=tmp_path / "worker.log") as worker,
    ):
        code = one.process.wait(90)

    assert code == 0
    assert count(database) == 10
    (kept,) = (cache / "weights").iterdir()
    assert kept.read_bytes() == model.read_bytes()
    assert "the head sends the weights" in worker.said


def test_status_names_the_workers_that_have_joined(tmp_path: Path) -> None:
    head, database = f"tcp://127.0.0.1:{free_port()}", tmp_path / "results.db"
    inbox = draw_images(tmp_path / "inbox", 40)
    with (
        running(inbox, "--workers", head, "--lanes", "none", database=database, watching=False) as one,
        remote_worker(head, log=tmp_path / "worker.log", lanes=2) as worker,
    ):
        until(lambda: count(database) == 40)
        until(lambda: any(one["images_per_second"] > 0 for one in _workers(database)))
        text = bt_daemon("status", "--db", database).stdout
        (told,) = _workers(database)
        os.killpg(worker.process.pid, signal.SIGKILL)
        until(lambda: not _workers(database))
        check = bt_daemon("status", "--check", "--db", database)
        log = one.log.read_text()

    assert told["name"].endswith(f":{worker.process.pid}")
    assert (told["lanes"], told["refused"]) == (2, "")
    assert told["images_per_second"] > 0
    assert told["last_heard_seconds"] < 15
    assert f"{told['name']}" in text
    assert "2 lanes, " in text
    assert check.returncode == 1
    assert "no worker has joined" in check.stdout
    assert "joined with 2 lanes" in log


def test_with_one_key_they_meet_over_tls(tmp_path: Path) -> None:
    key, database = tmp_path / "workers.pem", tmp_path / "results.db"
    made = bt_daemon("worker", "--make-key", key)
    head = f"tls://127.0.0.1:{free_port()}"
    inbox = draw_images(tmp_path / "inbox", 10)

    arguments = (inbox, "--workers", head, "--workers-key", key, "--lanes", "none", "--once")
    with (
        running(*arguments, database=database, watching=False) as one,
        remote_worker(head, "--workers-key", key, log=tmp_path / "worker.log") as worker,
    ):
        code = one.process.wait(90)
        left = worker.stop()

    assert made.returncode == 0, made.stderr
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert (code, left) == (0, 0)
    assert count(database) == 10


def test_a_worker_with_another_key_or_none_ends_with_one_line(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.pem", tmp_path / "theirs.pem"
    for key in (ours, theirs):
        bt_daemon("worker", "--make-key", key)
    port, database = free_port(), tmp_path / "results.db"
    inbox = draw_images(tmp_path / "inbox", 1)

    with running(
        inbox, "--workers", f"tls://127.0.0.1:{port}", "--workers-key", ours, "--lanes", "none",
        database=database, watching=False,
    ) as one:  # fmt: skip
        wait_until_listening(one)
        other = _ended(f"tls://127.0.0.1:{port}", "--workers-key", theirs, log=tmp_path / "other.log")
        none = _ended(f"tcp://127.0.0.1:{port}", log=tmp_path / "none.log")

    assert other[0] == none[0] == 6
    assert "its key is another; give --workers-key the file that the daemon has" in other[1]
    assert "it is encrypted; give --workers-key the file that the daemon has" in none[1]


def test_a_worker_with_a_key_where_the_daemon_has_none_ends_with_one_line(
    daemon: tuple[Daemon, str], tmp_path: Path
) -> None:
    key = tmp_path / "workers.pem"
    bt_daemon("worker", "--make-key", key)

    code, said = _ended(daemon[1], "--workers-key", key, log=tmp_path / "worker.log")

    assert code == 6
    assert "it is not encrypted; start the daemon with --workers-key too" in said


def test_what_is_no_worker_of_ours_gets_nothing(daemon: tuple[Daemon, str], tmp_path: Path) -> None:
    """A plain Dask worker is sent away, and is no worker in the status."""
    script = (
        "import asyncio, sys\nfrom distributed import Worker\n"
        "async def main():\n"
        "    worker = await Worker(sys.argv[1], nthreads=1, local_directory=sys.argv[2])\n"
        "    await asyncio.wait_for(worker.finished(), 20)\n"
        "asyncio.run(main())\nsys.exit(0)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, daemon[1], str(tmp_path)], capture_output=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert all(one["refused"] for one in _workers(daemon[0].database))


def _ended(head: str, *arguments: str | Path, log: Path) -> tuple[int, str]:
    worker = RemoteProcess(head, "--lanes", "1", *arguments, log=log)
    return worker.wait(), worker.said


def _workers(database: Path) -> list[dict[str, Any]]:
    done = bt_daemon("status", "--json", "--db", database)
    found: list[dict[str, Any]] = json.loads(done.stdout)["remote_workers"] if done.stdout else []
    return found
