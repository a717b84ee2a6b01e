"""Remote lanes with a real bridge: what a port in use, a late answer and a worker that hangs come to."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from daemon.engines.manifest import PreparedEngine
from daemon.remote import wire
from daemon.remote.head.remote_lanes import MeetingPoint, RemoteLanes
from daemon.remote.head_address import HeadAddress
from daemon.workers import message_codec
from daemon.workers.messages import Known, Task, WorkerSetup
from daemon.workers.restarts import WorkerError
from storage.records import Judged, Outcome, Status
from tests.support.inboxes import MovableClock
from tests.support.remote_workers import free_port
from trainer.images.picture import Limits

pytestmark = pytest.mark.slow


def _lanes(folder: Path, port: int, clock: MovableClock) -> RemoteLanes:
    point = MeetingPoint(HeadAddress("127.0.0.1", port, False), "", [str(folder).encode()])
    lanes = RemoteLanes(point, decode_seconds=1.0, monotonic=clock.monotonic)
    prepared = PreparedEngine("openvino", "cpu", "fp32", "nowhere", "ab" * 32, "", "")
    lanes.begin(WorkerSetup(prepared, Limits(), 8, 1 << 30))
    lanes.remember(Known("", 0, b"secret"))
    return lanes


def _turn_until(lanes: RemoteLanes, condition: Callable[[], object]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        wait(lanes.waitables(), 0.1)
        outcomes += lanes.collect()
    return outcomes


def _tasks(count: int) -> list[Task]:
    return [Task(number, b"/inbox/x", 1, 1, 1) for number in range(count)]


def _answer(tasks: list[Task]) -> bytes:
    judged = Judged(Status.OK, "no", 0.9, None)
    return message_codec.encode([Outcome(task.file_id, judged) for task in tasks])


def test_a_port_that_is_taken_is_one_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        lanes = _lanes(tmp_path, taken.getsockname()[1], MovableClock())
        try:
            with pytest.raises(WorkerError, match=r"no worker can join at tcp://127.0.0.1:\d+ \(.*in use"):
                _turn_until(lanes, lambda: False)
        finally:
            lanes.close()


def test_an_answer_to_a_batch_that_was_taken_back_is_dropped(tmp_path: Path) -> None:
    clock = MovableClock()
    lanes = _lanes(tmp_path, free_port(), clock)
    try:
        _turn_until(lanes, lambda: "no worker has joined" in lanes.trouble)
        lanes._hear(wire.pack(wire.JOINED, wire.Joined("tcp://127.0.0.1:1", "one", 1)))
        assert lanes.room(100) == 64
        lanes.submit(_tasks(2))
        clock.ahead += 200  # it does not answer, and is let go
        lanes.collect()
        assert lanes.remote_workers() == []
        lanes._hear(wire.pack(wire.JOINED, wire.Joined("tcp://127.0.0.1:2", "two", 1)))
        lanes.collect()
        first, second = 1, lanes._numbers
        assert lanes.in_flight() == 2

        lanes._hear(wire.pack_answer(second, _answer(_tasks(2))))
        lanes._hear(wire.pack_answer(first, _answer(_tasks(2))))
        lanes._hear(wire.pack_answer(second, _answer(_tasks(2))))
        outcomes = lanes.collect()
    finally:
        lanes.close()

    assert [one.file_id for one in outcomes] == [0, 1]
    assert lanes.in_flight() == 0


def test_an_answer_that_is_none_costs_the_worker_its_place_and_no_image(tmp_path: Path) -> None:
    lanes = _lanes(tmp_path, free_port(), MovableClock())
    try:
        lanes._hear(wire.pack(wire.JOINED, wire.Joined("tcp://127.0.0.1:1", "one", 1)))
        lanes.submit(_tasks(3))
        lanes._hear(wire.pack_answer(lanes._numbers, b"[1, 2]"))
        outcomes = lanes.collect()
        given = lanes.give_back()
    finally:
        lanes.close()

    assert outcomes == []
    assert given == [_tasks(3)]
    assert not lanes.ready
