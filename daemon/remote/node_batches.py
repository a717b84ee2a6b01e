"""The batches that a worker holds: handed to its lanes, and answered when all their files have outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.remote.wire import unpack_tasks
from daemon.workers import message_codec

if TYPE_CHECKING:
    from daemon.workers.lanes import Lanes
    from daemon.workers.messages import Task
    from storage.records import Outcome


@dataclass(slots=True, eq=False)
class _Batch:
    number: int
    tasks: list[Task]
    outcomes: dict[int, Outcome] = field(default_factory=dict)  # by file


class NodeBatches:
    """What one joined worker holds."""

    def __init__(self, lanes: Lanes, answer: Callable[[int, bytes], None]) -> None:
        """`answer` sends the answer to a batch."""
        self._lanes, self._answer = lanes, answer
        self._queue: deque[Task] = deque()
        self._batches: dict[int, _Batch] = {}  # by number
        self._files: dict[int, _Batch] = {}

    @property
    def held(self) -> int:
        """How many batches have no answer yet."""
        return len(self._batches)

    def take(self, number: int, packed: bytes) -> None:
        """Take a batch from the head; raise GarbledError if it is none."""
        batch = self._batches[number] = _Batch(number, unpack_tasks(packed))
        self._files.update((task.file_id, batch) for task in batch.tasks)
        self._queue.extend(batch.tasks)

    def turn(self) -> None:
        """Collect what the lanes have done, answer what is complete, hand out what waits."""
        for outcome in self._lanes.collect():
            self._conclude(outcome)
        while self._queue and (room := self._lanes.room(len(self._queue))):
            self._lanes.submit([self._queue.popleft() for _ in range(min(room, len(self._queue)))])

    def _conclude(self, outcome: Outcome) -> None:
        batch = self._files.pop(outcome.file_id)
        batch.outcomes[outcome.file_id] = outcome
        if len(batch.outcomes) < len(batch.tasks):
            return
        del self._batches[batch.number]
        in_order = [batch.outcomes[task.file_id] for task in batch.tasks]
        self._answer(batch.number, message_codec.encode(in_order))
