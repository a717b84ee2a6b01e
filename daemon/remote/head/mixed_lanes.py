"""Local and remote lanes as one: each gets its share of what waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from daemon.workers.messages import Census, RemoteWorker

if TYPE_CHECKING:
    from daemon.remote.head.remote_lanes import RemoteLanes
    from daemon.workers.messages import Known, Task, WorkerSetup
    from daemon.workers.pool import WorkerPool
    from storage.records import Outcome


class MixedLanes:
    """The worker processes of this machine and those of workers that join."""

    def __init__(self, local: WorkerPool, remote: RemoteLanes) -> None:
        self._local, self._remote = local, remote
        self._local_room = 0  # of the last answer to `room`
        self._returned: deque[list[Task]] = deque()  # what no remote worker is there to take

    def begin(self, setup: WorkerSetup) -> None:
        """Tell both what to do."""
        self._local.begin(setup)
        self._remote.begin(setup)

    def remember(self, known: Known) -> None:
        """Tell both what is known."""
        self._local.remember(known)
        self._remote.remember(known)

    def room(self, waiting: int) -> int:
        """Return how many of the `waiting` tasks `submit` takes now: each side as many as it has lanes."""
        if self._returned:
            return 0
        here, there = self._local.census().wanted, self._remote.census().ready
        share = -(-waiting * here // max(1, here + there))
        self._local_room = self._local.room(share)
        elsewhere = self._remote.room(waiting - self._local_room)
        if not self._local_room + elsewhere:
            self._local_room = self._local.room(waiting)
        return self._local_room + elsewhere

    def submit(self, tasks: Sequence[Task]) -> None:
        """Hand tasks to both, at most `room()` of them."""
        here, there = tasks[: self._local_room], tasks[self._local_room :]
        if here:
            self._local.submit(here)
        if there:
            self._remote.submit(there)

    @property
    def ready(self) -> bool:
        """Whether one of both can judge."""
        return self._local.ready or self._remote.ready

    @property
    def restarts(self) -> int:
        """How many processes of this machine were replaced."""
        return self._local.restarts + self._remote.restarts

    @property
    def trouble(self) -> str:
        """What keeps both from working, '' if one works."""
        return self._local.trouble if not self._remote.ready else ""

    def census(self) -> Census:
        """Return the lanes of both."""
        here, there = self._local.census(), self._remote.census()
        return Census(here.wanted + there.wanted, here.ready + there.ready, here.stuck + there.stuck)

    def remote_workers(self) -> Sequence[RemoteWorker]:
        """Return the workers on other machines."""
        return self._remote.remote_workers()

    def in_flight(self) -> int:
        """Return how many tasks have no outcome yet."""
        return self._local.in_flight() + self._remote.in_flight() + sum(map(len, self._returned))

    def waitables(self) -> list[Any]:
        """Return what becomes readable when one of both has something to say."""
        return [*self._local.waitables(), *self._remote.waitables()]

    def next_deadline(self) -> float:
        """Return when `collect` should be called at the latest, monotonic seconds."""
        return min(self._local.next_deadline(), self._remote.next_deadline())

    def collect(self) -> list[Outcome]:
        """Return the outcomes of both; what no remote worker is there to take is judged here."""
        outcomes = self._local.collect() + self._remote.collect()
        self._returned.extend(self._remote.give_back())
        while self._returned:
            batch = self._returned[0]
            room = self._local.room(len(batch))
            if room <= 0:
                break
            self._local.submit(batch[:room])
            self._returned.popleft()
            if batch[room:]:
                self._returned.appendleft(batch[room:])
        return outcomes

    def close(self) -> None:
        """End both."""
        self._remote.close()
        self._local.close()
