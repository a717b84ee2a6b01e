"""Lanes: the interface through which the service has images judged, whatever runs behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from daemon.workers.messages import Census, Known, RemoteWorker, Task, WorkerSetup
    from storage.records import Outcome


class Lanes(Protocol):
    """Judges files for one single-threaded caller, who waits on `waitables` and calls `collect`.

    A lane is one worker process that judges a batch at a time; what is submitted gets exactly one outcome.
    """

    def begin(self, setup: WorkerSetup) -> None:
        """Tell the lanes what to do; once."""

    def remember(self, known: Known) -> None:
        """Tell the lanes where answers may be known already, and the secret of pseudonyms."""

    def room(self, waiting: int) -> int:
        """Return how many of the `waiting` tasks `submit` takes now."""

    def submit(self, tasks: Sequence[Task]) -> None:
        """Take tasks, at most `room()` of them."""

    @property
    def ready(self) -> bool:
        """Whether at least one lane has opened its engine."""

    @property
    def restarts(self) -> int:
        """How many worker processes were replaced."""

    @property
    def trouble(self) -> str:
        """What keeps the lanes from working, '' if nothing does."""

    def census(self) -> Census:
        """Return how many lanes there should be, are ready, and show no progress."""

    def remote_workers(self) -> Sequence[RemoteWorker]:
        """Return the workers on other machines: those that have joined, and those that were refused."""

    def in_flight(self) -> int:
        """Return how many tasks have no outcome yet."""

    def waitables(self) -> list[Any]:
        """Return what becomes readable when there may be something to collect."""

    def next_deadline(self) -> float:
        """Return when `collect` should be called at the latest, monotonic seconds; inf for never."""

    def collect(self) -> list[Outcome]:
        """Return the outcomes that are there now; raise WorkerError when the lanes cannot work."""

    def close(self) -> None:
        """End the lanes; what has no outcome yet stays without one."""
