"""A worker on another machine as the daemon sees it: what it holds, how quick it is, what is overdue."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.workers.messages import RemoteWorker

if TYPE_CHECKING:
    from daemon.workers.messages import Task

# Batches a lane may hold: one in work, one waiting, so that it never stands idle between two.
_DEPTH = 2
# What a worker may need for a batch beyond the time its files may take: its engine, and worker processes of
# its own that have to be started again. Longer than its own patience, so that it finds the guilty file.
_PATIENCE_SECONDS = 150.0
# As `status` tells the speed of all.
_RATE_SECONDS = 60.0


@dataclass(slots=True, eq=False)
class SentBatch:
    """A batch on its way."""

    number: int
    tasks: list[Task]
    fed: float | None = None  # when it became one of those in work, monotonic seconds


@dataclass(slots=True, eq=False)
class JoinedWorker:
    """One worker, from joining to leaving."""

    address: str
    name: str
    lanes: int
    heard: float  # monotonic seconds
    joined: float
    batches: dict[int, SentBatch] = field(default_factory=dict)  # in the order they were sent
    leaving: bool = False  # it finishes what it has
    reserved: bool = False  # it is kept for one file that is judged alone
    _done: deque[tuple[float, int]] = field(default_factory=deque)  # when how many images were answered

    @property
    def slots(self) -> int:
        """How many batches it may hold."""
        return 0 if self.leaving or self.reserved else _DEPTH * self.lanes

    @property
    def free(self) -> int:
        """How many more batches it takes."""
        return max(0, self.slots - len(self.batches))

    @property
    def load(self) -> tuple[float, int]:
        """How busy it is: batches a lane, then images."""
        return (len(self.batches) / self.slots if self.free else float("inf")), self.held

    @property
    def held(self) -> int:
        """How many images it holds."""
        return sum(len(batch.tasks) for batch in self.batches.values())

    @property
    def in_work(self) -> list[SentBatch]:
        """The batches that its lanes may be working on: the oldest, one a lane."""
        return list(self.batches.values())[: self.lanes]

    def take(self, batch: SentBatch, now: float) -> None:
        """Hold one more batch."""
        self.batches[batch.number] = batch
        self._feed(now)

    def answered(self, number: int, now: float) -> None:
        """Let go of a batch that has its answer."""
        self._done.append((now, len(self.batches.pop(number).tasks)))
        self.heard = now
        self._forget(now)
        self._feed(now)

    def deadline(self, decode_seconds: float) -> float:
        """Return when an answer is overdue, monotonic seconds; inf if it holds nothing."""
        return min(
            (
                batch.fed + len(batch.tasks) * decode_seconds + _PATIENCE_SECONDS
                for batch in self.in_work
                if batch.fed is not None
            ),
            default=float("inf"),
        )

    def told(self, now: float) -> RemoteWorker:
        """Return what `status` tells of it."""
        self._forget(now)
        span = min(_RATE_SECONDS, max(1.0, now - self.joined))
        rate = sum(images for _, images in self._done) / span
        return RemoteWorker(self.name, self.lanes, round(rate, 1), round(max(0.0, now - self.heard), 1))

    def _feed(self, now: float) -> None:
        for batch in self.in_work:
            if batch.fed is None:
                batch.fed = now

    def _forget(self, now: float) -> None:
        while self._done and self._done[0][0] < now - _RATE_SECONDS:
            self._done.popleft()
