"""Remote lanes: the lanes of workers on other machines, fed and watched as local workers are.

Dask lives in a process of its own, the bridge (`bridge_main`): of a batch this one makes a message, and of
the answer that a worker encoded it makes outcomes. Which worker gets which batch is decided here, and so is
what becomes of it: a worker that leaves or does not answer in time loses its batches to others, and an answer
that comes after all is dropped. A bridge that ends is started again, and what it held is tried again.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from config.text import printable
from daemon.frames import GarbledError
from daemon.log import LOGGER_NAME, CauseLog
from daemon.remote import wire
from daemon.remote.head.bridge_process import BridgeProcess
from daemon.remote.head.bridge_setup import BridgeSetup
from daemon.remote.head.joined_worker import JoinedWorker, SentBatch
from daemon.remote.head.lost_batches import LostBatches
from daemon.remote.head.stale_view import believed
from daemon.remote.terms import terms_of
from daemon.workers import message_codec
from daemon.workers.messages import Census, RemoteWorker
from daemon.workers.restarts import WorkerError, in_words

if TYPE_CHECKING:
    from daemon.remote.head_address import HeadAddress
    from daemon.workers.messages import Known, Task, WorkerSetup
    from storage.records import Outcome

# Importing Dask takes a second or two, on a busy machine more.
_START_SECONDS = 60.0
# The bridge says every second that it lives.
_SILENT_SECONDS = 15.0
_PAUSES = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0)
# Refused workers that `status` names.
_MOST_REFUSED = 10


@dataclass(frozen=True, slots=True)
class MeetingPoint:
    """Where workers join, and what they must see."""

    address: HeadAddress
    key: str  # PEM file, "" for none
    roots: Sequence[bytes]  # inboxes


class RemoteLanes:
    """Lanes of workers that join; for one single-threaded caller."""

    def __init__(
        self,
        place: MeetingPoint,
        *,
        decode_seconds: float,
        batch: int = 8,
        monotonic: Callable[[], float] = time.monotonic,
        logger: logging.Logger | None = None,
    ) -> None:
        """Start the bridge, which imports what it needs and waits for `begin` and `remember`.

        `batch` is what an engine on a CPU computes at once.
        """
        self._address, self._key, self._roots = place.address, place.key, place.roots
        self._decode_seconds, self._batch_size = decode_seconds, batch
        self._monotonic = monotonic
        self._logger = logger or logging.getLogger(LOGGER_NAME)
        self._log = CauseLog(self._logger, monotonic)
        self._setup: WorkerSetup | None = None
        self._bridge_setup: bytes = b""
        self._workers: dict[str, JoinedWorker] = {}
        self._refused: dict[str, tuple[str, float]] = {}  # name -> why, and when
        self._retry: deque[list[Task]] = deque()
        self._lost = LostBatches()
        self._outcomes: list[Outcome] = []
        self._numbers = 0
        self._losses = 0  # of the bridge in a row, before it listened
        self._listened = False  # whether a bridge ever did
        self._restart_at: float | None = None
        self.restarts = 0
        self._open()

    def _open(self) -> None:
        self._restart_at = None
        self._bridge: BridgeProcess | None = BridgeProcess()
        self._ending = ""  # why it says it ends
        self._alive = self._monotonic()
        self._listening = False
        if self._bridge_setup:
            self._bridge.send(wire.SETUP + self._bridge_setup)

    def begin(self, setup: WorkerSetup) -> None:
        """Take the setup that a local worker would get; workers are told it as terms."""
        self._setup = setup

    def remember(self, known: Known) -> None:
        """Let workers join from now on; they have no database and infer whatever they are given."""
        assert self._setup is not None
        setup = self._setup
        heatmaps = [setup.heatmaps.encode(errors="surrogateescape")] if setup.heatmaps else []
        terms = terms_of(setup, self._decode_seconds, [*self._roots, *heatmaps], self._batch_size)
        bridge = BridgeSetup(self._address, self._key, terms, setup.prepared.weights, known.secret)
        self._bridge_setup = pickle.dumps(bridge)
        self._alive = self._monotonic()
        if self._bridge is not None:
            self._bridge.send(wire.SETUP + self._bridge_setup)

    def room(self, waiting: int) -> int:
        """Return how many of the `waiting` tasks `submit` takes now; as `WorkerPool.room`."""
        if self._retry or self._setup is None:
            return 0
        free = sum(worker.free for worker in self._workers.values())
        return min(waiting, free * self._size(waiting))

    def _size(self, waiting: int) -> int:
        """Return how many files go into one batch: fewer at the end, so that all end at the same time."""
        assert self._setup is not None
        slots = sum(worker.slots for worker in self._workers.values())
        share = -(-waiting // max(1, slots))
        return min(self._setup.tasks, max(self._setup.batch, share))

    def submit(self, tasks: Sequence[Task]) -> None:
        """Hand tasks to the workers with the most room for the lanes they have."""
        rest, size = list(tasks), self._size(len(tasks))
        while rest:
            self._send(min(self._workers.values(), key=lambda one: one.load), rest[:size])
            rest = rest[size:]

    def _send(self, worker: JoinedWorker, tasks: list[Task]) -> None:
        self._numbers += 1
        worker.take(SentBatch(self._numbers, tasks), self._monotonic())
        if self._bridge is not None:
            batch = wire.PackedBatch(self._numbers, worker.address, wire.pack_tasks(tasks))
            self._bridge.send(wire.pack(wire.BATCH, batch))

    @property
    def ready(self) -> bool:
        """Whether a worker has joined."""
        return bool(self._workers)

    @property
    def trouble(self) -> str:
        """What keeps workers from working, '' if nothing does."""
        if self._bridge is None:
            return f"the process that speaks to workers ends ({self._ending}); tried again and again"
        return "" if self._workers or not self._listening else f"no worker has joined at {self._address}"

    def census(self) -> Census:
        """Return how many lanes the workers that have joined have, and how many of them are overdue."""
        lanes = sum(worker.lanes for worker in self._workers.values())
        return Census(lanes, lanes, 0)

    def remote_workers(self) -> list[RemoteWorker]:
        """Return the workers that have joined, then those refused lately."""
        now = self._monotonic()
        joined = [worker.told(now) for worker in self._workers.values()]
        refused = [RemoteWorker(name, 0, 0.0, now - when, why) for name, (why, when) in self._refused.items()]
        return joined + refused

    def in_flight(self) -> int:
        """Return how many tasks have no outcome yet."""
        held = sum(worker.held for worker in self._workers.values())
        return held + sum(map(len, self._retry)) + self._lost.held + len(self._outcomes)

    def waitables(self) -> list[Any]:
        """Return the bridge's connection."""
        return [] if self._bridge is None else [self._bridge.connection]

    def next_deadline(self) -> float:
        """Return when `collect` should look for what is overdue, monotonic seconds."""
        deadlines = [worker.deadline(self._decode_seconds) for worker in self._workers.values()]
        if self._restart_at is not None:
            deadlines.append(self._restart_at)
        elif self._bridge_setup:
            deadlines.append(self._bridge_deadline())
        return min(deadlines, default=float("inf"))

    def collect(self) -> list[Outcome]:
        """Return the outcomes that are there now; what overdue or lost workers held goes to others.

        Raises WorkerError when nothing can be listened to.
        """
        self._attend()
        now = self._monotonic()
        for worker in list(self._workers.values()):
            if now >= worker.deadline(self._decode_seconds):
                self._drop(worker)
        if self._restart_at is not None and now >= self._restart_at:
            self._open()
        self._resubmit()
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def give_back(self) -> list[list[Task]]:
        """Return batches that no worker is there to take, for others to judge."""
        if self._workers:
            return []
        given, self._retry = list(self._retry), deque()
        return [*given, *([task] for task in self._lost.take_all())]

    def close(self) -> None:
        """End the bridge, which tells the workers; what has no outcome yet stays without one."""
        if self._bridge is not None:
            self._bridge.close()
        self._bridge, self._restart_at, self._workers = None, None, {}

    def _attend(self) -> None:
        """Take what the bridge has sent; let go of it if it died, hangs, or talks as it never does."""
        if self._bridge is None:
            return
        try:
            for message in self._bridge.read():
                self._hear(message)
        except (EOFError, OSError):
            self._lose_bridge("")
        except GarbledError as error:
            self._lose_bridge(str(error))
        else:
            if self._bridge_setup and self._monotonic() >= self._bridge_deadline():
                self._lose_bridge("it hung")

    def _bridge_deadline(self) -> float:
        return self._alive + (_SILENT_SECONDS if self._listening else _START_SECONDS)

    def _hear(self, message: bytes) -> None:
        kind = message[:1]
        if kind == wire.ANSWER:
            self._answered(*wire.unpack_answer(message))
        elif kind == wire.JOINED:
            self._joined(wire.unpack(message, wire.Joined))
        elif kind == wire.LEFT:
            self._left(wire.unpack(message, str))
        elif kind == wire.LEAVING:
            if worker := self._workers.get(wire.unpack(message, str)):
                worker.leaving = True
        elif kind == wire.REFUSED:
            self._refuse(wire.unpack(message, wire.Refused))
        elif kind == wire.ALIVE:
            self._heard(wire.unpack(message, dict[str, float]))
        elif kind == wire.LISTENING:
            self._listen(wire.unpack(message, str))
        elif kind == wire.ENDED:
            self._ending = printable(wire.unpack(message, str))
        else:
            raise GarbledError("no message of a bridge")

    def _listen(self, address: str) -> None:
        self._listening, self._losses = True, 0
        self._alive = self._monotonic()
        self._log.over("bridge", "workers can join again; nothing was lost")
        if not self._listened:
            self._logger.info("workers may join at %s: bt-daemon worker %s", address, address)
        self._listened = True

    def _heard(self, silent: dict[str, float]) -> None:
        self._alive = self._monotonic()
        for address, seconds in silent.items():
            if worker := self._workers.get(address):
                worker.heard = self._alive - seconds

    def _joined(self, joined: wire.Joined) -> None:
        now = self._monotonic()
        worker = JoinedWorker(joined.address, joined.name, joined.lanes, now, now)
        self._workers[joined.address] = worker
        self._refused.pop(joined.name, None)
        lanes = "1 lane" if joined.lanes == 1 else f"{joined.lanes} lanes"
        self._logger.info("worker %s joined with %s", joined.name, lanes)

    def _refuse(self, refused: wire.Refused) -> None:
        why = printable(refused.why)
        self._refused.pop(refused.name, None)
        self._refused[refused.name] = (why, self._monotonic())
        while len(self._refused) > _MOST_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._log(f"refused {refused.name} {why}", f"worker {refused.name} was refused: {why}")

    def _answered(self, number: int, answer: bytes) -> None:
        """Take an answer; one to a batch that was taken back meanwhile is dropped."""
        worker = next((one for one in self._workers.values() if number in one.batches), None)
        if worker is None:
            return
        tasks = worker.batches[number].tasks
        try:
            outcomes = message_codec.decode(answer, tasks)
        except GarbledError:
            self._drop(worker)
            return
        self._lost.acquit(tasks)
        self._outcomes += [believed(one, task) for one, task in zip(outcomes, tasks, strict=True)]
        worker.answered(number, self._monotonic())

    def _left(self, address: str) -> None:
        worker = self._workers.pop(address, None)
        if worker is None:
            return
        self._take_back(worker)
        lost = f"; its {worker.held} images go to others" if worker.held else ""
        self._logger.info("worker %s left%s", worker.name, lost)

    def _drop(self, worker: JoinedWorker) -> None:
        """Let go of a worker that does not answer, or not what it was asked: it joins again if it can."""
        self._logger.warning("worker %s does not answer in time and is let go; no image is lost", worker.name)
        del self._workers[worker.address]
        self._take_back(worker)
        if self._bridge is not None:
            self._bridge.send(wire.pack(wire.DROP, worker.address))

    def _take_back(self, worker: JoinedWorker) -> None:
        outcomes, again = self._lost.of(worker)
        self._outcomes += outcomes
        self._retry.extend(again)

    def _lose_bridge(self, why: str) -> None:
        """Take back what workers hold, and start another bridge."""
        assert self._bridge is not None
        code = self._bridge.close()
        why = self._ending or why or ("it hung" if code is None else in_words(code))
        self._bridge, self._ending = None, why
        for worker in self._workers.values():
            self._retry.extend(batch.tasks for batch in worker.batches.values())
        self._workers = {}
        if not self._listened and code == 1:
            raise WorkerError(
                f"no worker can join at {self._address} ({why})",
                hint="give --workers another address or port",
            )
        self._losses += 1
        self.restarts += 1
        pause = _PAUSES[min(self._losses, len(_PAUSES) - 1)]
        self._restart_at = self._monotonic() + pause
        self._log("bridge", f"the process that speaks to workers was lost ({why}); no image is lost")

    def _resubmit(self) -> None:
        """Hand out again what was taken back: suspects alone, all else as it was."""
        self._lost.hand_out(list(self._workers.values()), self._send)
        while self._retry:
            free = [worker for worker in self._workers.values() if worker.free]
            if not free:
                return
            self._send(min(free, key=lambda one: one.load), self._retry.popleft())
