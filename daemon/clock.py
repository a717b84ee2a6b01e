"""Clock: the time as the daemon sees it, so that tests can bring their own."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Time as the inbox sees it; tests bring their own."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""

    def now_us(self) -> int:
        """Return microseconds since the epoch, UTC."""


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def now_us(self) -> int:
        """Return microseconds since the epoch, UTC."""
        return time.time_ns() // 1000
