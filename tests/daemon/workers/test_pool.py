"""Workers: every task gets its outcome, whatever a decoder does to the process it runs in."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

import psutil
import pytest

import daemon.workers.pool
from daemon.engines.cache import prepare_engine
from daemon.engines.manifest import PreparedEngine
from daemon.process import child_environment
from daemon.workers.messages import Census, Task, WorkerSetup
from daemon.workers.pool import WorkerError, WorkerPool
from storage.records import Failed, Judged, Outcome
from tests.conftest import REPOSITORY
from tests.support.daemons import until
from tests.support.inboxes import MovableClock
from tests.support.workers import (
    PATIENCE_SECONDS,
    collect,
    drawn_images,
    judge,
    make_workers,
    task,
    wait_until_ready,
)
from trainer.images.picture import Limits
from trainer.model.identity import default_weights

# Python imports this by itself at the start of a worker: a decoder that does what real ones have done.
HOSTILE_DECODER = """
import os, pickle, signal, struct, sys, time
import trainer.images.decode
class Evil:
    def __reduce__(self):
        return (os.system, ("touch " + os.environ["EVIL_MARK"],))
def say(data):
    os.write(int(sys.argv[1]), data)
decode = trainer.images.decode.decode
def hostile(data, limits, size, **options):
    if data.startswith(b"HANG"):
        time.sleep(3600)
    if data.startswith(b"CRASH"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if data.endswith(b"STOP") and os.path.exists(os.environ["STOP_WHILE"]):
        os.kill(os.getpid(), signal.SIGSTOP)
    if data.startswith(b"SLOW"):
        time.sleep(0.3)
    if data.startswith(b"LIE pickle"):
        lie = pickle.dumps([Evil()])
        say(struct.pack("!i", len(lie)) + lie)
    if data.startswith(b"LIE endless"):
        say(struct.pack("!I", 0xFFFFFFFF) + b"x")
    if data.startswith(b"LIE other"):
        lie = b'[[7, null, 1, "permanent", "so I say"]]'
        say(struct.pack("!I", len(lie)) + lie)
    if data.startswith(b"LIE half"):
        say(b"\\0\\0")
        os.kill(os.getpid(), signal.SIGSTOP)
    if data.startswith(b"LIE young"):
        import mmap
        memory = mmap.mmap(int(sys.argv[2]), 16)
        memory[8:] = struct.pack("q", 1 << 62)
        time.sleep(3600)
    if data.startswith(b"LIE short"):
        os.ftruncate(int(sys.argv[2]), 0)
    if data.startswith(b"KILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    if data.startswith(b"EAT"):
        bytearray(20 << 30)
    return decode(data, limits, size, **options)
trainer.images.decode.decode = hostile
"""


@pytest.fixture(scope="module")
def prepared(engine_cache: Path) -> PreparedEngine:
    return prepare_engine(default_weights(), "cpu", "fp32", engine_cache, logging.getLogger("test"))[0]


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the workers a decoder that hangs, crashes or eats memory when a file says so."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOSTILE_DECODER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(REPOSITORY), str(folder))))


@pytest.fixture
def images(tmp_path: Path) -> list[Task]:
    return drawn_images(tmp_path / "inbox")


@pytest.mark.slow
def test_every_task_gets_exactly_one_outcome(prepared: PreparedEngine, images: list[Task]) -> None:
    with make_workers(prepared, count=2) as workers:
        outcomes = judge(workers, images)

    assert sorted(outcome.file_id for outcome in outcomes) == list(range(8))
    assert all(isinstance(outcome.result, Judged) and outcome.sha256 for outcome in outcomes)
    assert workers.restarts == 0


@pytest.mark.slow
def test_on_few_cores_the_other_workers_start_when_the_first_is_ready(
    prepared: PreparedEngine, images: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with WorkerPool(3, decode_seconds=10) as workers:
        before = len(workers.waitables())
        workers.begin(WorkerSetup(prepared, Limits(), 8, 1 << 31))
        told = len(workers.waitables())
        wait_until_ready(workers)
        workers.collect()
        after = len(workers.waitables())
        outcomes = judge(workers, images)

    assert (before, told, after) == (1, 1, 3)
    assert all(isinstance(outcome.result, Judged) for outcome in outcomes)
    assert workers.restarts == 0


@pytest.mark.slow
@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("content", "reason", "restarts"),
    [
        (b"HANG", "took longer than 1 s", 2),
        (b"CRASH", "crashed the decoder (SIGSEGV)", 2),
        (b"KILL", "crashed the decoder (SIGKILL)", 4),
        (b"EAT", "needs more memory than decode_memory allows", 0),
    ],
)
def test_a_decoder_that_misbehaves_costs_its_own_file_only(
    prepared: PreparedEngine, images: list[Task], tmp_path: Path, content: bytes, reason: str, restarts: int
) -> None:
    guilty = tmp_path / "inbox" / "guilty.png"
    guilty.write_bytes(content)

    with make_workers(prepared, decode_seconds=1.0) as workers:
        outcomes = {
            one.file_id: one.result for one in judge(workers, [*images[:4], task(99, guilty), *images[4:]])
        }

    failed = outcomes.pop(99)
    assert isinstance(failed, Failed)
    assert failed.reason == reason
    assert sorted(outcomes) == list(range(8))
    assert all(isinstance(result, Judged) for result in outcomes.values())
    assert workers.restarts == restarts


@pytest.mark.slow
def test_a_lane_killed_from_outside_is_replaced_and_its_images_are_judged(
    prepared: PreparedEngine, images: list[Task]
) -> None:
    before = set(psutil.Process().children())

    with make_workers(prepared) as workers:
        wait_until_ready(workers)
        (worker,) = set(psutil.Process().children()) - before
        worker.suspend()
        workers.submit(images)
        worker.send_signal(signal.SIGKILL)
        outcomes = collect(workers, len(images))

    assert sorted(one.file_id for one in outcomes) == list(range(8))
    assert all(isinstance(one.result, Judged) for one in outcomes)
    assert workers.restarts == 1


@pytest.mark.slow
@pytest.mark.defects(26)
@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("lie", ["pickle", "endless", "other", "half", "young", "short"])
def test_a_lane_that_says_what_no_lane_says_is_replaced_and_nothing_of_it_is_run(
    prepared: PreparedEngine, images: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    guilty = tmp_path / "inbox" / "guilty.png"
    guilty.write_bytes(f"LIE {lie}".encode())
    mark = tmp_path / "mark"
    monkeypatch.setenv("EVIL_MARK", str(mark))

    # Of healthy images none takes so long, even on a busy machine.
    with make_workers(prepared, decode_seconds=3.0) as workers:
        monkeypatch.setattr(daemon.workers.pool, "_ENGINE_SECONDS", 3.0)
        # Few: who says it has just begun, over and over, has the time of a whole batch.
        outcomes = judge(workers, [images[0], task(99, guilty), images[1]])

    results = {one.file_id: one.result for one in outcomes}
    assert sorted(one.file_id for one in outcomes) == [0, 1, 99]
    assert isinstance(results.pop(99), Failed)
    assert all(isinstance(result, Judged) for result in results.values())
    assert not mark.exists()


@pytest.mark.defects(43)
@pytest.mark.usefixtures("hostile")
def test_the_duration_of_a_file_is_its_own(
    prepared: PreparedEngine, images: list[Task], tmp_path: Path
) -> None:
    slow = tmp_path / "inbox" / "slow.png"
    slow.write_bytes(b"SLOW")

    with make_workers(prepared) as workers:
        outcomes = judge(workers, [*images, task(99, slow)])

    durations = {one.file_id: one.duration_us for one in outcomes}
    assert max(durations, key=lambda file_id: durations[file_id]) == 99
    assert durations[99] >= 300_000
    assert all(0 < took < 300_000 for file_id, took in durations.items() if file_id != 99)


@pytest.mark.slow
@pytest.mark.defects(6)
@pytest.mark.usefixtures("hostile")
def test_a_lane_killed_over_a_healthy_image_makes_it_no_error(
    prepared: PreparedEngine, images: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while that very image is decoded: once among others, once alone."""
    slow, flag = tmp_path / "inbox" / "slow.png", tmp_path / "flag"
    slow.write_bytes(Path(os.fsdecode(images[0].path)).read_bytes() + b"STOP")
    flag.touch()
    monkeypatch.setenv("STOP_WHILE", str(flag))
    before = set(psutil.Process().children())

    with make_workers(prepared) as workers:
        workers.submit([*images[:2], task(99, slow), *images[2:]])
        outcomes = [*_kill_when_stopped(workers, before), *_kill_when_stopped(workers, before)]
        flag.unlink()
        outcomes += collect(workers, 9 - len(outcomes))

    assert sorted(one.file_id for one in outcomes) == [*range(8), 99]
    assert all(isinstance(one.result, Judged) for one in outcomes)


@pytest.mark.defects(6)
def test_a_lane_killed_before_it_is_ready_blames_no_image(
    prepared: PreparedEngine, images: list[Task]
) -> None:
    before = set(psutil.Process().children())
    clock = MovableClock()
    outcomes: list[Outcome] = []

    with make_workers(prepared, monotonic=clock.monotonic) as workers:
        workers.submit(images[:1])
        for _ in range(5):
            outcomes += _kill_the_worker(workers, before)
            clock.ahead += 40  # the next worker is started now
        outcomes += collect(workers, 1 - len(outcomes))

    assert [type(one.result) for one in outcomes] == [Judged]


@pytest.mark.slow
@pytest.mark.defects(7)
def test_lanes_killed_faster_than_they_start_are_started_more_slowly_and_never_given_up(
    prepared: PreparedEngine, images: list[Task], caplog: pytest.LogCaptureFixture
) -> None:
    before = set(psutil.Process().children())
    clock = MovableClock()
    caplog.set_level(logging.INFO, "bt-daemon")

    with make_workers(prepared, monotonic=clock.monotonic) as workers:
        workers.submit(images)
        for _ in range(5):
            _kill_the_worker(workers, before)
            assert workers.trouble == "" or "SIGKILL" in workers.trouble
            clock.ahead += max(0.0, workers.next_deadline() - clock.monotonic())
        trouble = workers.trouble
        wait_until_ready(workers)
        after = workers.trouble
        outcomes = collect(workers, len(images))

    assert "worker processes end before they are ready (SIGKILL)" in trouble
    assert after == ""
    assert sum(isinstance(one.result, Judged) for one in outcomes) == 8
    assert caplog.text.count("end before they are ready") == 1
    assert "nothing was lost" in caplog.text


@pytest.mark.slow
@pytest.mark.defects(7)
def test_an_engine_that_no_lane_can_open_ends_in_one_line(
    prepared: PreparedEngine, images: list[Task], tmp_path: Path
) -> None:
    broken = replace(prepared, weights=str(tmp_path / "missing.safetensors"))

    with (
        make_workers(broken, count=2) as workers,
        pytest.raises(WorkerError, match="end before they are ready") as caught,
    ):
        judge(workers, images)

    assert "missing.safetensors" in str(caught.value)  # why it could not be opened, in its own words
    assert "\n" not in str(caught.value)
    assert workers.restarts == 6


@pytest.mark.slow
def test_a_lane_that_was_idle_for_long_is_not_taken_for_a_hung_one(
    prepared: PreparedEngine, images: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the time since it got work, not since it last had some."""
    monkeypatch.setattr(daemon.workers.pool, "_ENGINE_SECONDS", 0.5)
    with make_workers(prepared) as workers:
        wait_until_ready(workers)
        time.sleep(0.6)

        workers.submit(images[:1])
        outcomes = workers.collect()
        outcomes += collect(workers, 1 - len(outcomes))

    assert len(outcomes) == 1
    assert workers.restarts == 0


@pytest.mark.slow
def test_a_worker_without_progress_is_counted_as_stuck_until_it_goes_on(
    prepared: PreparedEngine, images: list[Task]
) -> None:
    clock, others = MovableClock(), set(psutil.Process().children())
    with make_workers(prepared, decode_seconds=600, monotonic=clock.monotonic) as workers:
        before = workers.census()
        wait_until_ready(workers)
        (worker,) = set(psutil.Process().children()) - others
        worker.suspend()
        workers.submit(images[:2])
        fed = workers.census()
        clock.ahead += 11
        stuck = workers.census()
        worker.resume()
        collect(workers, 2)
        after = workers.census()

    assert before == Census(wanted=1, ready=0, stuck=0)
    assert fed == after == Census(wanted=1, ready=1, stuck=0)
    assert stuck == Census(wanted=1, ready=1, stuck=1)


@pytest.mark.slow
def test_lanes_hold_no_more_than_two_batches_each(prepared: PreparedEngine, images: list[Task]) -> None:
    with make_workers(prepared, batch=2) as workers:
        rooms = [workers.room(8)]
        workers.submit(images[:2])
        rooms.append(workers.room(8))
        workers.submit(images[2:4])
        rooms.append(workers.room(8))
        collect(workers, 4)

        assert rooms == [2, 2, 0]
        assert workers.in_flight() == 0


def test_the_last_files_go_out_in_smaller_batches(prepared: PreparedEngine, images: list[Task]) -> None:
    with make_workers(prepared, count=2, batch=2, tasks=32) as workers:
        rooms = [workers.room(waiting) for waiting in (0, 1, 3, 20, 1000)]
        workers.submit(images[:2])
        rooms.append(workers.room(20))

        assert rooms == [0, 1, 3, 10, 64, 10]


@pytest.mark.slow
def test_lanes_end_with_the_daemon_even_when_it_is_killed(prepared: PreparedEngine) -> None:
    script = (
        "import sys, time; from daemon.engines.manifest import Compiled, ErrorBound, PreparedEngine\n"
        "from daemon.workers.worker import WorkerSetup; from daemon.workers.pool import WorkerPool\n"
        "from trainer.images.picture import Limits\n"
        f"lanes = WorkerPool(2, WorkerSetup({prepared!r}, Limits(), 8, 1 << 31), decode_seconds=10)\n"
        "print('started', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, env=child_environment(), stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        workers = psutil.Process(parent.pid).children()

        parent.kill()
        gone, alive = psutil.wait_procs(workers, timeout=PATIENCE_SECONDS)

    assert (len(gone), alive) == (2, [])


def _kill_the_worker(workers: WorkerPool, before: set[psutil.Process]) -> list[Outcome]:
    """Kill the only worker as soon as there is one, and let the daemon notice."""
    outcomes: list[Outcome] = []

    def gathered() -> bool:
        outcomes.extend(workers.collect())
        return bool(_children_since(before))

    until(gathered)
    (worker,) = _children_since(before)
    worker.kill()
    wait(workers.waitables(), PATIENCE_SECONDS)
    return outcomes + workers.collect()


def _kill_when_stopped(workers: WorkerPool, before: set[psutil.Process]) -> list[Outcome]:
    """Kill the only worker when it has stopped itself over an image."""
    outcomes: list[Outcome] = []

    def is_stopped() -> bool:
        outcomes.extend(workers.collect())
        return any(one.status() == psutil.STATUS_STOPPED for one in _children_since(before))

    until(is_stopped)
    return outcomes + _kill_the_worker(workers, before)


def _children_since(before: set[psutil.Process]) -> set[psutil.Process]:
    return set(psutil.Process().children()) - before


@pytest.mark.slow
def test_closing_leaves_no_process_and_no_descriptor(prepared: PreparedEngine, images: list[Task]) -> None:
    ours = psutil.Process()
    children = set(ours.children())
    descriptors = ours.num_fds()

    with make_workers(prepared, count=2) as workers:
        judge(workers, images)

    assert set(ours.children()) == children
    assert ours.num_fds() == descriptors
