"""The lanes as the daemon sees them: tasks in, outcomes out, and no lane is ever waited for in vain.

A lane that dies or works on one file for too long is replaced. Which file it was working on is read
from memory shared with it, so the guilty file becomes an error outcome and its neighbours are tried
again. Where one process owns a device for all lanes, its end is nobody's guilt: it and all lanes are
started anew, and what they held is tried again. No threads: the daemon's loop waits on `waitables` and
calls `collect`.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any

from config.errors import BtError
from daemon.child import child_environment
from daemon.device import Device
from daemon.log import LOGGER_NAME
from daemon.task import ENGINE_LOST, NO_TASK, PROGRESS, EngineSetup
from storage.records import Failed, FailureKind, Outcome

if TYPE_CHECKING:
    from daemon.task import Known, LaneSetup, Task

# Batches a lane may hold: one in work, one waiting, so that it never stands idle between two.
_DEPTH = 2
# A lane needs less than a second to start; one that takes this long is stuck.
_START_SECONDS = 60.0
# The engine computes a batch in some milliseconds; a batch that stands this long after its last file
# was decoded is stuck in the engine.
_ENGINE_SECONDS = 60.0
# Where lanes wait for a device to be opened they notice themselves if it never is (after 120 s).
_DEVICE_START_SECONDS = 150.0
# A device that is lost this often without one outcome between will not do better the next time.
_MOST_LOSSES = 3


class LaneError(BtError):
    """Lanes or the device's process die again and again: the engine cannot be opened here."""


@dataclass(slots=True)
class _Lane:
    process: subprocess.Popen[bytes]
    connection: Connection
    progress: mmap.mmap
    started: float
    fed: float = 0.0  # when its first batch became the one to work on
    ready: bool = False
    batches: deque[list[Task]] = field(default_factory=deque)

    @property
    def held(self) -> int:
        return sum(len(batch) for batch in self.batches)


class Lanes:
    """A pool of worker processes for one single-threaded caller; a context manager."""

    def __init__(
        self,
        count: int,
        setup: LaneSetup | None = None,
        *,
        decode_seconds: float,
        engine: str = "openvino",
        monotonic: Callable[[], float] = time.monotonic,
        logger: logging.Logger | None = None,
    ) -> None:
        """Start `count` processes; without a setup they import what `engine` needs and wait for `begin`.

        `engine` is the likely one: "openvino", "torch" or "shared" (one process computes for all).
        """
        self._setup = setup
        self._known: Known | None = None
        self._engine = engine
        self._decode_seconds = decode_seconds
        self._monotonic = monotonic
        self._retry: deque[list[Task]] = deque()  # neighbours of a guilty file, to be tried again
        self._deaths: dict[int, int] = {}  # file -> lanes that died with it in an undecided batch
        self._outcomes: list[Outcome] = []
        self._stillborn = 0
        self._losses = 0  # of the device in a row, with no outcome between
        self._logger = logger or logging.getLogger(LOGGER_NAME)
        self.restarts = 0
        self._device = Device(self._logger) if engine == "shared" else None
        if setup is not None:
            self._begin_device(setup)
        self._lanes = [self._start() for _ in range(count)]

    def __enter__(self) -> Lanes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, setup: LaneSetup) -> None:
        """Tell the lanes what to do; once, if they were started without a setup."""
        self._setup = setup
        self._begin_device(setup)
        for lane in self._lanes:
            self._tell(lane)

    def remember(self, known: Known) -> None:
        """Tell the lanes where answers may be known already; what they were given before is inferred."""
        self._known = known
        for lane in self._lanes:
            _tell_known(lane, known)

    def room(self, waiting: int) -> int:
        """Return how many of the `waiting` tasks `submit` takes now.

        When few are left it takes them in smaller batches, so that all lanes end at about the same time
        (guided self-scheduling, Polychronopoulos and Kuck 1987).
        """
        if self._retry or self._setup is None:
            return 0
        share = -(-waiting // (_DEPTH * len(self._lanes)))
        size = min(self._setup.tasks, max(self._setup.batch, share))
        return min(waiting, size * sum(len(lane.batches) < _DEPTH for lane in self._lanes))

    def submit(self, tasks: Sequence[Task]) -> None:
        """Hand tasks to the least loaded lanes, at most `room()` of them."""
        assert self._setup is not None
        rest = list(tasks)
        while rest:
            lane = min(self._lanes, key=lambda one: (len(one.batches), one.held))
            # Spread over the lanes that are equally idle, in batches as large as allowed.
            equals = sum(len(one.batches) == len(lane.batches) for one in self._lanes)
            size = min(self._setup.tasks, -(-len(rest) // equals))
            self._send(lane, rest[:size])
            rest = rest[size:]

    @property
    def ready(self) -> bool:
        """Whether at least one lane has opened its engine."""
        return any(lane.ready for lane in self._lanes)

    def in_flight(self) -> int:
        """Return how many tasks have no outcome yet."""
        return sum(lane.held for lane in self._lanes) + sum(map(len, self._retry)) + len(self._outcomes)

    def waitables(self) -> list[Any]:
        """Return what becomes readable when a lane or the device's process has something to say."""
        device = [] if self._device is None else [self._device.control]
        return [*device, *(lane.connection for lane in self._lanes)]

    def next_deadline(self) -> float:
        """Return when `collect` should look for hung lanes, monotonic seconds; inf if none works."""
        return min(
            (self._deadline(lane) for lane in self._lanes if lane.batches or not lane.ready),
            default=float("inf"),
        )

    def collect(self) -> list[Outcome]:
        """Return the outcomes that are there now, replacing lanes that died or hang.

        Raises LaneError when replacing does not help.
        """
        if self._device is not None and not self._device.listen():
            self._lose_device()
        for number, lane in enumerate(self._lanes):
            if not self._receive(lane):
                self._replace(number, hung=False)
            elif (lane.batches or not lane.ready) and self._monotonic() >= self._deadline(lane):
                self._replace(number, hung=True)
        self._resubmit()
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def close(self) -> None:
        """End all lanes; what has no outcome yet stays without one."""
        for lane in self._lanes:
            _end(lane)
        self._lanes = []
        if self._device is not None:
            self._device.close()
            self._device = None

    def _begin_device(self, setup: LaneSetup) -> None:
        """Have the device opened for all lanes; if each computes for itself, no such process is needed."""
        if not setup.shared:
            if self._device is not None:
                self._device.close()
                self._device = None
            return
        self._device = self._device or Device(self._logger)
        self._device.begin(EngineSetup(setup.prepared, setup.batch, maps=bool(setup.heatmaps)))

    def _start(self) -> _Lane:
        ours, theirs = socket.socketpair()
        shared = os.memfd_create("bt-lane", os.MFD_CLOEXEC)
        os.ftruncate(shared, PROGRESS.size)
        progress = mmap.mmap(shared, PROGRESS.size)
        try:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "daemon.lane_process"),
                    *(str(theirs.fileno()), str(shared), self._engine),
                ],
                pass_fds=(theirs.fileno(), shared),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=child_environment(),
            )
        finally:
            theirs.close()
            os.close(shared)
        lane = _Lane(process, Connection(ours.detach()), progress, self._monotonic())
        if self._setup is not None:
            self._tell(lane)
        return lane

    def _tell(self, lane: _Lane) -> None:
        lane.started = self._monotonic()
        with contextlib.suppress(OSError):  # a lane that died at once is noticed by `collect`
            lane.connection.send(self._setup)
            if self._device is not None:
                self._device.connect(lane.connection)
        if self._known is not None:
            _tell_known(lane, self._known)

    def _send(self, lane: _Lane, batch: list[Task]) -> None:
        if not lane.batches:
            lane.fed = self._monotonic()
        lane.batches.append(batch)
        with contextlib.suppress(OSError):  # noticed by `collect`, which has the batch from `batches`
            lane.connection.send(batch)

    def _receive(self, lane: _Lane) -> bool:
        """Take what a lane has sent; return False if it is dead."""
        try:
            while lane.connection.poll():
                message = lane.connection.recv()
                if message is None:
                    lane.ready, self._stillborn = True, 0
                    continue
                batch = lane.batches.popleft()
                self._losses = 0
                lane.fed = self._monotonic()
                for task in batch:
                    self._deaths.pop(task.file_id, None)
                self._outcomes += message
        except (EOFError, OSError):
            return False
        return True

    def _deadline(self, lane: _Lane) -> float:
        place, since = self._place(lane)
        if not lane.ready:
            return lane.started + (_START_SECONDS if self._device is None else _DEVICE_START_SECONDS)
        # `since` of a lane that was idle may be hours old: its time counts from when it got work.
        return max(since, lane.fed) + (self._decode_seconds if place != NO_TASK else _ENGINE_SECONDS)

    def _place(self, lane: _Lane) -> tuple[int, float]:
        place, since = PROGRESS.unpack_from(lane.progress)
        return place, since / 1e9

    def _replace(self, number: int, *, hung: bool) -> None:
        """Start a new lane in the place of a dead or hung one, and decide what becomes of its tasks."""
        lane = self._lanes[number]
        place, _ = self._place(lane)
        was_ready = lane.ready
        ended = _end(lane)
        if self._device is not None and ended == ENGINE_LOST:
            self._lose_device()
            return
        self.restarts += 1
        if not was_ready:
            self._stillborn += 1
            if self._stillborn >= 3 * len(self._lanes):
                raise LaneError(
                    f"the worker processes end before they are ready ({_words(ended)})",
                    hint="see bt-daemon doctor",
                )
        if lane.batches:
            first = lane.batches.popleft()
            self._retry.extend(lane.batches)
            reason = (
                f"took longer than {self._decode_seconds:g} s"
                if hung
                else f"crashed the decoder ({_words(ended)})"
            )
            self._divide(first, place if was_ready else NO_TASK, reason)
        self._lanes[number] = self._start()

    def _lose_device(self) -> None:
        """Start the device's process anew, and all lanes, whose connections led to the old one."""
        assert self._device is not None
        for lane in self._lanes:
            self._receive(lane)  # what is finished need not be done again
            _end(lane)
            self._retry.extend(lane.batches)
        self._losses += 1
        where = self._setup.prepared.device if self._setup is not None else "the device"
        if self._losses >= _MOST_LOSSES:
            reason = self._device.close()
            raise LaneError(
                f"the engine on {where} ends again and again ({reason})", hint="see bt-daemon doctor"
            )
        self._logger.warning("the engine on %s is started again (%s)", where, self._device.restart())
        self.restarts += len(self._lanes)
        self._lanes[:] = [
            self._start() for _ in self._lanes
        ]  # in place: `collect` is on its way through them

    def _divide(self, batch: list[Task], place: int, reason: str) -> None:
        """Make the guilty file of a batch an error, and have the others tried again."""
        if 0 <= place < len(batch):
            guilty = batch[place]
            self._outcomes.append(Outcome(guilty.file_id, Failed(FailureKind.PERMANENT, reason)))
            rest = batch[:place] + batch[place + 1 :]
            self._retry.extend([rest] if rest else [])
            return
        # It died outside decoding, so any of them may be guilty: one by one from now on.
        for task in batch:
            deaths = self._deaths[task.file_id] = self._deaths.get(task.file_id, 0) + (len(batch) == 1)
            if deaths >= 2:
                self._deaths.pop(task.file_id)
                self._outcomes.append(Outcome(task.file_id, Failed(FailureKind.PERMANENT, reason)))
            else:
                self._retry.append([task])

    def _resubmit(self) -> None:
        while self._retry:
            lane = min(self._lanes, key=lambda one: len(one.batches))
            if len(lane.batches) >= _DEPTH:
                return
            self._send(lane, self._retry.popleft())


def _tell_known(lane: _Lane, known: Known) -> None:
    with contextlib.suppress(OSError):  # as above
        lane.connection.send(known)


def _end(lane: _Lane) -> int:
    """End a lane and return how it ended (subprocess's return code); one that has ended stays so."""
    if lane.connection.closed:
        return lane.process.wait()
    # A dying lane closes its connection a moment before it can be reaped: how it died is worth the wait.
    with contextlib.suppress(subprocess.TimeoutExpired):
        lane.process.wait(0.1 if _hung_up(lane) else 0)
    lane.process.kill()
    code = lane.process.wait()
    lane.connection.close()
    lane.progress.close()
    return code


def _hung_up(lane: _Lane) -> bool:
    """Whether the lane's end of the connection is closed."""
    poll = select.poll()
    poll.register(lane.connection.fileno(), select.POLLHUP)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _words(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
