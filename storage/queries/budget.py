"""Time budget of a question that a person waits for, and pieces of large tables to spend it on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

# Rows of one piece: some ten milliseconds, so that a budget is overdrawn by no more than that.
PIECE = 100_000


class Budget:
    """Seconds that may be spent from now on."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._end = monotonic() + seconds

    @property
    def spent(self) -> bool:
        """Whether they are gone."""
        return self._monotonic() >= self._end


def pieces(last_id: int, budget: Budget) -> Iterator[tuple[int, int]]:
    """Yield ranges (after, up to and including) of ids, the largest first, while the budget lasts.

    There is always one, so that every question has some answer.
    """
    upper = last_id
    while upper > 0:
        yield max(0, upper - PIECE), upper
        upper -= PIECE
        if budget.spent:
            return
