"""Worker pool: processes that read and judge files, watched, restarted and fed from one loop.

A worker that dies or works on one file for too long is replaced. Which file it was working on is read
from memory shared with it: that file is tried again alone and becomes an error outcome if it is guilty,
its neighbours are tried again (`daemon.workers.blame`). How soon the next worker is started
`daemon.workers.restarts` knows.
Where one process owns a device for all workers, its end is nobody's guilt: it and all workers are
started anew, and what they held is tried again. No threads: the daemon's loop waits on `waitables` and
calls `collect`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any

from daemon.frames import FrameReader, GarbledError
from daemon.log import LOGGER_NAME
from daemon.process import spawn
from daemon.workers import message_codec
from daemon.workers.blame import Blame
from daemon.workers.gpu_owner import GpuOwner
from daemon.workers.messages import ENGINE_LOST, NO_TASK, PROGRESS, Census, EngineSetup
from daemon.workers.restarts import Restarts, WorkerError, from_outside, in_words

if TYPE_CHECKING:
    from daemon.workers.messages import Known, RemoteWorker, Task, WorkerSetup
    from storage.records import Outcome

__all__ = ["WorkerError", "WorkerPool"]

# Batches a worker may hold: one in work, one waiting, so that it never stands idle between two.
_DEPTH = 2
# A worker needs less than a second to start; one that takes this long is stuck.
_START_SECONDS = 60.0
# The engine computes a batch in some milliseconds; a batch that stands this long after its last file
# was decoded is stuck in the engine.
_ENGINE_SECONDS = 60.0
# A worker that shows no progress for so long is told of, though it may have longer before it is replaced.
_STUCK_SECONDS = 10.0
# How long a worker that has closed its connection may take to end.
_REAP_SECONDS = 2.0
# Where workers wait for a device to be opened they notice themselves if it never is (after 120 s).
_DEVICE_START_SECONDS = 150.0
# A device that is lost this often without one outcome between will not do better the next time.
_MOST_LOSSES = 3


@dataclass(slots=True, eq=False)
class _WorkerProcess:
    process: subprocess.Popen[bytes]
    connection: Connection
    progress: mmap.mmap
    started: float
    fed: float = 0.0  # when its first batch became the one to work on
    ready: bool = False
    unable: str = ""  # what it said instead of what a worker says
    frames: FrameReader = field(default_factory=lambda: FrameReader(message_codec.MOST_BYTES))
    batches: deque[list[Task]] = field(default_factory=deque)

    @property
    def held(self) -> int:
        return sum(len(batch) for batch in self.batches)


class WorkerPool:
    """A pool of worker processes for one single-threaded caller; a context manager."""

    def __init__(
        self,
        count: int,
        setup: WorkerSetup | None = None,
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
        self._blame = Blame()
        self._outcomes: list[Outcome] = []
        self._losses = 0  # of the device in a row, with no outcome between
        self._logger = logger or logging.getLogger(LOGGER_NAME)
        self._restarts = Restarts(count, self._logger, monotonic)
        self._vacancies: list[float] = []  # when each worker that is missing is started, monotonic seconds
        self._count = count
        self._device = GpuOwner(self._logger) if engine == "shared" else None
        if setup is not None:
            self._begin_device(setup)
        # One core is this process's, which imports too: if all started at once none would be ready as soon.
        at_once = count if setup is not None else min(count, max(1, len(os.sched_getaffinity(0)) - 1))
        self._later = count - at_once  # those that are started when the first is ready
        self._workers = [self._start() for _ in range(at_once)]

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, setup: WorkerSetup) -> None:
        """Tell the workers what to do; once, if they were started without a setup."""
        self._setup = setup
        self._decode_seconds = setup.decode_seconds or self._decode_seconds
        self._begin_device(setup)
        for worker in self._workers:
            self._tell(worker)

    def remember(self, known: Known) -> None:
        """Tell the workers where answers may be known already; what they were given before is inferred."""
        self._known = known
        for worker in self._workers:
            _tell_known(worker, known)

    def room(self, waiting: int) -> int:
        """Return how many of the `waiting` tasks `submit` takes now.

        When few are left it takes them in smaller batches, so that all workers end at about the same time
        (guided self-scheduling, Polychronopoulos and Kuck 1987).
        """
        if self._retry or self._setup is None or not self._workers:
            return 0
        share = -(-waiting // (_DEPTH * len(self._workers)))
        size = min(self._setup.tasks, max(self._setup.batch, share))
        return min(waiting, size * sum(len(worker.batches) < _DEPTH for worker in self._workers))

    def submit(self, tasks: Sequence[Task]) -> None:
        """Hand tasks to the least loaded workers, at most `room()` of them."""
        assert self._setup is not None
        rest = list(tasks)
        while rest:
            worker = min(self._workers, key=lambda one: (len(one.batches), one.held))
            # Spread over the workers that are equally idle, in batches as large as allowed.
            equals = sum(len(one.batches) == len(worker.batches) for one in self._workers)
            size = min(self._setup.tasks, -(-len(rest) // equals))
            self._send(worker, rest[:size])
            rest = rest[size:]

    @property
    def ready(self) -> bool:
        """Whether at least one worker has opened its engine."""
        return any(worker.ready for worker in self._workers)

    @property
    def restarts(self) -> int:
        """How many workers were replaced."""
        return self._restarts.count

    @property
    def trouble(self) -> str:
        """What keeps workers from working, '' if nothing does."""
        return self._restarts.trouble

    def census(self) -> Census:
        """Return how many workers there should be, are ready, and show no progress."""
        latest = self._monotonic() - _STUCK_SECONDS
        busy = [max(self._place(worker)[1], worker.fed) for worker in self._workers if worker.batches]
        ready = sum(worker.ready for worker in self._workers)
        return Census(self._count, ready, sum(since < latest for since in busy))

    def remote_workers(self) -> Sequence[RemoteWorker]:
        """Return none: all of them are processes of this machine."""
        return ()

    def in_flight(self) -> int:
        """Return how many tasks have no outcome yet."""
        return sum(worker.held for worker in self._workers) + sum(map(len, self._retry)) + len(self._outcomes)

    def waitables(self) -> list[Any]:
        """Return what becomes readable when a worker or the device's process has something to say."""
        device = [] if self._device is None else [self._device.control]
        return [*device, *(worker.connection for worker in self._workers)]

    def next_deadline(self) -> float:
        """Return when `collect` should look for hung or missing workers, monotonic seconds; inf for never."""
        deadlines = [self._deadline(worker) for worker in self._workers if worker.batches or not worker.ready]
        return min(deadlines + self._vacancies, default=float("inf"))

    def collect(self) -> list[Outcome]:
        """Return the outcomes that are there now, replacing workers that died or hang.

        Raises LaneError when replacing does not help.
        """
        if self._device is not None and not self._device.listen():
            self._lose_device()
        for worker in list(self._workers):
            if worker in self._workers:  # else it went with the device
                self._attend(worker)
        self._fill_vacancies()
        self._resubmit()
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def close(self) -> None:
        """End all workers; what has no outcome yet stays without one."""
        for worker in self._workers:
            _end(worker)
        self._workers, self._vacancies = [], []
        if self._device is not None:
            self._device.close()
            self._device = None

    def _begin_device(self, setup: WorkerSetup) -> None:
        """Have the device opened for all workers; if each computes for itself, no such process is needed."""
        if not setup.shared:
            if self._device is not None:
                self._device.close()
                self._device = None
            return
        self._device = self._device or GpuOwner(self._logger)
        self._device.begin(EngineSetup(setup.prepared, setup.batch, maps=bool(setup.heatmaps)))

    def _start(self) -> _WorkerProcess:
        shared = os.memfd_create("bt-lane", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(shared, PROGRESS.size)
        # Memory that a worker could make shorter would kill who looks at it.
        fcntl.fcntl(shared, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        progress = mmap.mmap(shared, PROGRESS.size)
        try:
            process, connection = spawn(
                "daemon.workers.worker_main", str(shared), self._engine, pass_fds=[shared]
            )
        finally:
            os.close(shared)
        worker = _WorkerProcess(process, connection, progress, self._monotonic())
        if self._setup is not None:
            self._tell(worker)
        return worker

    def _tell(self, worker: _WorkerProcess) -> None:
        worker.started = self._monotonic()
        with contextlib.suppress(OSError):  # a worker that died at once is noticed by `collect`
            worker.connection.send(self._setup)
            if self._device is not None:
                self._device.connect(worker.connection)
        if self._known is not None:
            _tell_known(worker, self._known)

    def _send(self, worker: _WorkerProcess, batch: list[Task]) -> None:
        if not worker.batches:
            worker.fed = self._monotonic()
        worker.batches.append(batch)
        with contextlib.suppress(OSError):  # noticed by `collect`, which has the batch from `batches`
            worker.connection.send(batch)

    def _attend(self, worker: _WorkerProcess) -> None:
        """Take what a worker has sent; let go of it if it died or hangs."""
        if not self._receive(worker):
            self._lose(worker, hung=False)
        elif (worker.batches or not worker.ready) and self._monotonic() >= self._deadline(worker):
            self._lose(worker, hung=True)

    def _receive(self, worker: _WorkerProcess) -> bool:
        """Take what a worker has sent; return False if it is dead, or talks as no worker does."""
        try:
            while worker.connection.poll():
                for message in worker.frames.read(worker.connection.fileno()):
                    self._take(worker, message)
        except (EOFError, OSError):
            return False
        except GarbledError as error:
            worker.unable = str(error)
            return False
        return True

    def _take(self, worker: _WorkerProcess, message: bytes) -> None:
        if not worker.ready:
            if message != message_codec.READY:
                raise GarbledError(message_codec.why_unable(message) or "no greeting")
            worker.ready = True
            self._restarts.ready()
            self._vacancies += [self._monotonic()] * self._later
            self._later = 0
            return
        if not worker.batches:
            raise GarbledError("an answer to nothing")
        outcomes = message_codec.decode(message, worker.batches[0])
        self._blame.acquit(worker.batches.popleft())
        self._losses = 0
        worker.fed = self._monotonic()
        self._outcomes += outcomes

    def _deadline(self, worker: _WorkerProcess) -> float:
        place, since = self._place(worker)
        if not worker.ready:
            return worker.started + (_START_SECONDS if self._device is None else _DEVICE_START_SECONDS)
        # `since` of a worker that was idle may be hours old: its time counts from when it got work. A worker
        # that says it has just begun, over and over, is held to the time its whole batch may take.
        whole = len(worker.batches[0]) * self._decode_seconds if worker.batches else 0.0
        latest = max(since, worker.fed) + (self._decode_seconds if place != NO_TASK else _ENGINE_SECONDS)
        return min(latest, worker.fed + whole + _ENGINE_SECONDS)

    def _place(self, worker: _WorkerProcess) -> tuple[int, float]:
        place, since = PROGRESS.unpack_from(worker.progress)
        return place, since / 1e9

    def _lose(self, worker: _WorkerProcess, *, hung: bool) -> None:
        """End a dead or hung worker, decide what becomes of its tasks, and when another is started."""
        place, _ = self._place(worker)
        code, by_us = _end(worker)
        if self._device is not None and code == ENGINE_LOST:
            self._lose_device()
            return
        self._workers.remove(worker)
        how = "it hung" if hung else worker.unable or in_words(code)
        killed = not by_us and from_outside(code)
        if worker.batches and worker.ready:
            reason = (
                f"took longer than {self._decode_seconds:g} s" if hung else f"crashed the decoder ({how})"
            )
            guilty, again = self._blame.divide(worker.batches.popleft(), place, reason, killed=killed)
            self._outcomes += guilty
            self._retry.extend(again)
        self._retry.extend(worker.batches)  # nobody had looked at these
        pause = self._restarts.after(how, killed=killed, was_ready=worker.ready)
        self._vacancies.append(self._monotonic() + pause)

    def _fill_vacancies(self) -> None:
        now = self._monotonic()
        due = sum(vacancy <= now for vacancy in self._vacancies)
        self._vacancies = [vacancy for vacancy in self._vacancies if vacancy > now]
        self._workers += [self._start() for _ in range(due)]

    def _lose_device(self) -> None:
        """Start the device's process anew, and all workers, whose connections led to the old one."""
        assert self._device is not None
        for worker in self._workers:
            self._receive(worker)  # what is finished need not be done again
            _end(worker)
            self._retry.extend(worker.batches)
        where = self._setup.prepared.device if self._setup is not None else "the device"
        reason = self._device.close()
        self._losses += not (self._device.killed and self._restarts.opened)
        if self._losses >= _MOST_LOSSES:
            raise WorkerError(
                f"the engine on {where} ends again and again ({reason})", hint="see bt-daemon doctor"
            )
        self._logger.warning("the engine on %s is started again (%s)", where, reason)
        self._device.restart()
        self._restarts.count += len(self._workers)
        self._vacancies, self._later = [], 0
        self._workers = [self._start() for _ in range(self._count)]

    def _resubmit(self) -> None:
        while self._retry and self._workers:
            worker = min(self._workers, key=lambda one: len(one.batches))
            if len(worker.batches) >= _DEPTH:
                return
            self._send(worker, self._retry.popleft())


def _tell_known(worker: _WorkerProcess, known: Known) -> None:
    with contextlib.suppress(OSError):  # as above
        worker.connection.send(known)


def _end(worker: _WorkerProcess) -> tuple[int, bool]:
    """End a worker; return how it ended (subprocess's return code), and whether it was ended here."""
    if worker.connection.closed:
        return worker.process.wait(), False
    # A dying worker closes its connection a moment before it can be reaped: how it died is worth the wait.
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.process.wait(_REAP_SECONDS if _hung_up(worker) else 0)
    by_us = worker.process.poll() is None
    worker.process.kill()
    code = worker.process.wait()
    worker.connection.close()
    worker.progress.close()
    return code, by_us


def _hung_up(worker: _WorkerProcess) -> bool:
    """Whether the worker's end of the connection is closed."""
    poll = select.poll()
    poll.register(worker.connection.fileno(), select.POLLHUP)
    return any(event & select.POLLHUP for _, event in poll.poll(0))
