"""The time that a head has been away for, and the limit of a worker's patience with it."""

from __future__ import annotations

from collections.abc import Callable


class Absence:
    """Counts from the beginning and from every moment at which the head was there."""

    def __init__(self, longest: float, monotonic: Callable[[], float]) -> None:
        """`longest` is in seconds; 0: a worker waits for ever."""
        self.longest = longest
        self.joined = False  # whether the worker has ever joined it
        self._monotonic = monotonic
        self._since = monotonic()

    def over(self) -> None:
        """Say that the head is there, or was until now."""
        self._since = self._monotonic()

    def left(self) -> float:
        """Return for how many seconds a worker still waits, 0 if no longer."""
        if not self.longest:
            return float("inf")
        return max(0.0, self._since + self.longest - self._monotonic())
