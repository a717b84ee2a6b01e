"""Find the file to blame when a worker dies or hangs: the one that was alone in it, more than once.

A process may be killed from outside (the kernel short of memory, an operator) while it works on any
image, so a first death proves nothing: the file it was working on is tried again alone, its neighbours
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from storage.records import Failed, FailureKind, Outcome

if TYPE_CHECKING:
    from daemon.workers.messages import Task

# A decoder that crashes or hangs twice over the same file does so because of it.
_MOST_DEATHS = 2
# SIGKILL comes from outside. It may still be the file's doing, when it makes the kernel run out of memory.
_MOST_KILLS = 4


class _Deaths(NamedTuple):
    """How often a worker ended while it worked on one file."""

    own: int = 0
    killed: int = 0

    @property
    def prove_guilt(self) -> bool:
        return self.own >= _MOST_DEATHS or self.own + self.killed >= _MOST_KILLS


class Blame:
    """Remembers the deaths of files that have no outcome yet."""

    def __init__(self) -> None:
        self._deaths: dict[int, _Deaths] = {}

    def acquit(self, batch: Sequence[Task]) -> None:
        """Forget the deaths of files that have an outcome now."""
        for task in batch:
            self._deaths.pop(task.file_id, None)

    def divide(
        self, batch: list[Task], place: int, reason: str, *, killed: bool
    ) -> tuple[list[Outcome], list[list[Task]]]:
        """Return the outcomes of the guilty, and the batches in which the others are tried again.

        `place` is what the worker was working on, outside the batch if it was not decoding; `killed` says
        that a signal from outside ended it.
        """
        if not 0 <= place < len(batch):
            if len(batch) > 1:  # it died in the engine: any of them may be guilty, so one by one
                return [], [[task] for task in batch]
            place = 0
        suspect, rest = batch[place], batch[:place] + batch[place + 1 :]
        again = [rest] if rest else []
        own, kills = self._deaths.get(suspect.file_id, _Deaths())
        deaths = self._deaths[suspect.file_id] = _Deaths(own + (not killed), kills + killed)
        if not deaths.prove_guilt:
            return [], [*again, [suspect]]
        self.acquit([suspect])
        return [Outcome(suspect.file_id, Failed(FailureKind.PERMANENT, reason))], again
