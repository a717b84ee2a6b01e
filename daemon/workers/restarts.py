"""Restart policy of workers: when one that ended is started again, and when starting is of no use.

A worker that has worked is replaced at once. Workers that end before they are ready are started more and more
slowly: whatever kills them (the kernel short of memory, an operator) may stop, so the daemon never gives up
over that. Only an engine that no worker has ever opened ends it, once they have tried often enough.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable

from config.errors import BtError
from daemon.log import CauseLog

# Seconds before the next start, after so many rounds of workers that ended before they were ready.
_PAUSES = (0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 5.0)
# So often every worker may end by itself before any was ever ready.
_MOST_TRIES = 3
_FROM_OUTSIDE = frozenset({-signal.SIGKILL, -signal.SIGTERM})


class WorkerError(BtError):
    """Workers or the device's process die again and again: the engine cannot be opened here."""


class Restarts:
    """The patience with the workers of one daemon."""

    def __init__(self, workers: int, logger: logging.Logger, monotonic: Callable[[], float]) -> None:
        self._workers = workers
        self._log = CauseLog(logger, monotonic)
        self._unable = 0  # workers that ended by themselves before any was ready
        self._early = 0  # workers that ended before they were ready, since one was
        self.opened = False  # whether any worker was ever ready
        self.count = 0
        self.trouble = ""  # what keeps workers from starting, '' if nothing does

    def ready(self) -> None:
        """Take note that a worker has opened its engine."""
        self.opened, self._early, self.trouble = True, 0, ""
        self._log.over("early", "the worker processes start again; nothing was lost")

    def after(self, how: str, *, killed: bool, was_ready: bool) -> float:
        """Return for how many seconds no worker is started, after one that ended as the words `how` say.

        `killed` says that somebody else ended it. Raises LaneError when starting another will not help.
        """
        self.count += 1
        if was_ready:
            short = "; is memory short?" if killed else ""
            self._log("lost", f"a worker process was lost ({how}{short}) and is replaced; no image is lost")
            return 0.0
        if not self.opened and not killed:
            self._unable += 1
            if self._unable >= _MOST_TRIES * self._workers:
                raise WorkerError(
                    f"the worker processes end before they are ready ({how})", hint="see bt-daemon doctor"
                )
        self._early += 1
        pause = _PAUSES[min(self._early // self._workers, len(_PAUSES) - 1)]
        if pause:
            self.trouble = f"worker processes end before they are ready ({how}); tried again and again"
            self._log("early", f"{self.trouble}, nothing is lost")
        return pause


def from_outside(code: int) -> bool:
    """Tell whether a process that ended with this return code was ended by somebody else."""
    return code in _FROM_OUTSIDE


def in_words(code: int) -> str:
    """Return how a process ended, given subprocess's return code."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
