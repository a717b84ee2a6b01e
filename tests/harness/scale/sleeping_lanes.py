"""Lanes that sleep a fixed time for every image instead of computing, and note what they did and when.

Everything round them is real: they read the file and answer with its SHA-256, in batches as lanes hold them.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.workers.messages import Census, Known, RemoteWorker, Task, WorkerSetup
from storage.records import Failed, FailureKind, Judged, Outcome, Status

_DEPTH = 2  # batches a lane may hold, as a real one
_BATCH = 32


@dataclass(slots=True)
class _Lane:
    batches: deque[list[Task]] = field(default_factory=deque)
    done_at: float = 0.0  # monotonic seconds, of the batch in work


class SleepingLanes:
    """What `daemon.workers.pool.WorkerPool` is for the one who uses it; the time is slept, not worked."""

    def __init__(self, count: int, sleep_seconds: float, record: Path) -> None:
        """Have `count` lanes that take `sleep_seconds` for an image; lines about batches go to `record`."""
        self._lanes = [_Lane() for _ in range(count)]
        self._sleep = sleep_seconds
        self._record = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._label = "yes"
        self.ready = True
        self.restarts = 0
        self.trouble = ""

    def begin(self, setup: WorkerSetup) -> None:
        """Take note of nothing: there is no engine."""

    def remember(self, known: Known) -> None:
        """Take note of nothing: every image is slept for."""

    def room(self, waiting: int) -> int:
        """Return how many of the `waiting` tasks `submit` takes now, fewer in a batch when few are left."""
        share = -(-waiting // (_DEPTH * len(self._lanes)))
        return min(
            waiting, min(_BATCH, max(1, share)) * sum(len(one.batches) < _DEPTH for one in self._lanes)
        )

    def submit(self, tasks: Sequence[Task]) -> None:
        """Hand tasks to the least loaded lanes."""
        rest = list(tasks)
        while rest:
            lane = min(self._lanes, key=lambda one: (len(one.batches), sum(map(len, one.batches))))
            equals = sum(len(one.batches) == len(lane.batches) for one in self._lanes)
            size = min(_BATCH, -(-len(rest) // equals))
            lane.batches.append(rest[:size])
            if len(lane.batches) == 1:
                self._take_up(lane)
            rest = rest[size:]

    def collect(self) -> list[Outcome]:
        """Return the outcomes of the batches whose time is over."""
        outcomes: list[Outcome] = []
        now = time.monotonic()
        for lane in self._lanes:
            while lane.batches and lane.done_at <= now:
                batch = lane.batches.popleft()
                outcomes += [self._outcome(task) for task in batch]
                self._note("end", batch)
                if lane.batches:
                    # A lane that was looked at late has worked on meanwhile.
                    self._take_up(lane, lane.done_at)
        return outcomes

    def in_flight(self) -> int:
        """Return how many tasks have no outcome yet."""
        return sum(len(batch) for lane in self._lanes for batch in lane.batches)

    def waitables(self) -> list[Any]:
        """Return nothing: time alone brings outcomes, see `next_deadline`."""
        return []

    def next_deadline(self) -> float:
        """Return when the next batch is over, monotonic seconds; inf for never."""
        return min((lane.done_at for lane in self._lanes if lane.batches), default=float("inf"))

    def census(self) -> Census:
        """Return that all is well."""
        return Census(len(self._lanes), len(self._lanes), 0)

    def remote_workers(self) -> Sequence[RemoteWorker]:
        """Return nobody: these lanes are here."""
        return []

    def close(self) -> None:
        """Forget what is held."""
        for lane in self._lanes:
            lane.batches.clear()

    def _take_up(self, lane: _Lane, began: float | None = None) -> None:
        lane.done_at = (time.monotonic() if began is None else began) + self._sleep * len(lane.batches[0])
        self._note("begin", lane.batches[0])

    def _outcome(self, task: Task) -> Outcome:
        try:
            digest = hashlib.sha256(Path(os.fsdecode(task.path)).read_bytes()).digest()
        except OSError as error:
            return Outcome(task.file_id, Failed(FailureKind.GONE, error.strerror or "cannot be read"))
        slept_us = round(self._sleep * 1e6)
        return Outcome(task.file_id, Judged(Status.OK, self._label, 0.9, score=0.9), digest, slept_us)

    def _note(self, what: str, batch: Sequence[Task]) -> None:
        # One write each, so that a line is whole or not there when the process is killed.
        numbers = " ".join(str(task.file_id) for task in batch)
        os.write(self._record, f"{what} {time.monotonic():.4f} {numbers}\n".encode())
