"""Decide about batches whose worker was lost: tried again, and bounded if they cost many workers.

A worker on another machine finds its guilty files by itself: a decoder that crashes costs it a process, not
its life. A worker that vanishes was killed, cut off or switched off, so its batches are simply tried again.
Should one file nevertheless take whole workers with it, its batch has been with several of them: then each of
its files is judged alone, by a worker that holds nothing else, and one that costs more of them is an error.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from storage.records import Failed, FailureKind, Outcome

if TYPE_CHECKING:
    from daemon.remote.head.joined_worker import JoinedWorker
    from daemon.workers.messages import Task

# After so many lost workers the files of a batch are suspects.
_MOST_TOGETHER = 4
# So many workers may be lost over a file that is alone.
_MOST_ALONE = 3
_REASON = f"the worker that judged it was lost, {_MOST_TOGETHER} times with others and {_MOST_ALONE} alone"


class LostBatches:
    """Remembers losses of files that have no outcome yet."""

    def __init__(self) -> None:
        self._losses: Counter[int] = Counter()
        self._suspects: deque[Task] = deque()

    @property
    def held(self) -> int:
        """How many files wait to be judged alone."""
        return len(self._suspects)

    def acquit(self, tasks: Sequence[Task]) -> None:
        """Forget the losses of files that have an outcome now."""
        if self._losses:
            for task in tasks:
                self._losses.pop(task.file_id, None)

    def of(self, worker: JoinedWorker) -> tuple[list[Outcome], list[list[Task]]]:
        """Return the outcomes of guilty files of a lost worker, and the batches to be tried again."""
        outcomes, again = [], []
        in_work = worker.in_work
        for batch in worker.batches.values():
            if batch in in_work:  # nobody had looked at the others
                self._losses.update(task.file_id for task in batch.tasks)
            losses = max(self._losses[task.file_id] for task in batch.tasks)
            if losses < _MOST_TOGETHER:
                again.append(batch.tasks)
            elif losses < _MOST_TOGETHER + _MOST_ALONE:
                self._suspects.extend(batch.tasks)
            else:
                self.acquit(batch.tasks)
                outcomes += [
                    Outcome(task.file_id, Failed(FailureKind.PERMANENT, _REASON)) for task in batch.tasks
                ]
        return outcomes, again

    def hand_out(
        self, workers: Sequence[JoinedWorker], send: Callable[[JoinedWorker, list[Task]], None]
    ) -> None:
        """Send suspects to idle workers, one each; keep a worker free for them while there are any."""
        for worker in workers:
            if worker.reserved and not worker.batches:
                worker.reserved = False
                if self._suspects and not worker.leaving:
                    send(worker, [self._suspects.popleft()])
                    worker.reserved = True
        if self._suspects and not any(worker.reserved for worker in workers):
            able = [worker for worker in workers if not worker.leaving]
            if able:
                min(able, key=lambda one: one.held).reserved = True

    def take_all(self) -> list[Task]:
        """Give up the suspects: others judge them."""
        taken = list(self._suspects)
        self._suspects.clear()
        return taken
