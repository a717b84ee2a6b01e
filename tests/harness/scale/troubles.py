"""Troubles of a cluster, done while it works: workers killed, a link cut, database or head killed."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.harness.scale import records
from tests.harness.scale.cluster import Cluster
from tests.harness.scale.inbox import stored

_CUT_AT, _DATABASE_AT, _HEAD_AT = 0.25, 0.5, 0.7  # share of the images that is stored when it happens
_DOWN_SECONDS = 45.0  # a link stays down: longer than it may take to be noticed
_HEAD_AWAY_SECONDS = 2.0


class Trouble(Protocol):
    """Something that is done to a cluster as the work goes on."""

    def turn(self, cluster: Cluster, share: float) -> None:
        """Do what is due, given the share of images that is stored."""

    def over(self) -> bool:
        """Whether all was done that was to be."""

    def told(self, cluster: Cluster) -> dict[str, Any]:
        """Return what came of it, for the report."""


@dataclass(slots=True)
class KillWorkers:
    """Kills random workers, one after the other as the work goes on, and starts new ones in their place."""

    kills: int
    chance: random.Random
    done: int = 0

    def turn(self, cluster: Cluster, share: float) -> None:
        """Kill the next one when its part of the images is stored."""
        if not self.over() and share >= (self.done + 0.5) / (self.kills + 1):
            cluster.kill_node(self.chance)
            self.done += 1

    def over(self) -> bool:
        """Whether all are killed."""
        return self.done >= self.kills

    def told(self, cluster: Cluster) -> dict[str, Any]:
        """Return how many there were."""
        return {"kills": self.done}


@dataclass(slots=True)
class CutLink:
    """Takes a host off the network for a while; what its workers held must run elsewhere."""

    host: int
    chance: random.Random
    cut_at: float | None = None
    noticed_at: float | None = None  # when the head had let go of every worker that had joined from there
    mended_at: float | None = None
    _lines: set[str] = field(default_factory=set)  # that the head's log will hold then

    def turn(self, cluster: Cluster, share: float) -> None:
        """Cut when it is time, and mend after a while."""
        if self.cut_at is None:
            if share >= _CUT_AT:
                # Not in the rhythm of the commits, at which batches begin and end.
                time.sleep(self.chance.uniform(0.0, 0.5))
                self._lines = cluster.leaving_lines(self.host)
                cluster.hosts.cut(self.host)
                self.cut_at = time.monotonic()
        elif self.noticed_at is None and all(line in cluster.head_log.read_text() for line in self._lines):
            self.noticed_at = time.monotonic()
        elif self.mended_at is None and time.monotonic() > self.cut_at + _DOWN_SECONDS:
            cluster.hosts.mend(self.host)
            self.mended_at = time.monotonic()

    def over(self) -> bool:
        """Whether the host is on the network again."""
        return self.mended_at is not None

    def told(self, cluster: Cluster) -> dict[str, Any]:
        """Return how soon what the host held was begun elsewhere."""
        if self.cut_at is None:
            return {}
        moved = records.moved(records.read(cluster.folder), self.host, self.cut_at)
        return {
            "cut_link": {
                "images_given_to_others": self._given_to_others(cluster),
                "files_begun_twice": moved.files,
                "workers_joined": len(self._lines),
                "noticed_seconds": _after(self.cut_at, self.noticed_at),
                "first_begun_elsewhere_seconds": moved.first_seconds,
                "all_begun_elsewhere_seconds": moved.last_seconds,
                "down_seconds": _DOWN_SECONDS,
            }
        }

    def _given_to_others(self, cluster: Cluster) -> int:
        """Return how many images the head took back from the host, as its log says."""
        taken = 0
        for line in cluster.head_log.read_text().splitlines():
            found = re.search(r"left; its (\d+) images", line)
            if found and any(left in line for left in self._lines):
                taken += int(found[1])
        return taken


def _after(earlier: float, later: float | None) -> float | None:
    return None if later is None else round(later - earlier, 1)


@dataclass(slots=True)
class RestartDatabase:
    """Lets the database's server crash once, in mid-batch, and starts it again."""

    answers_at: float | None = None  # when the server answered again
    _rows_then: int | None = None
    back_seconds: float | None = None  # from then until a row was stored

    def turn(self, cluster: Cluster, share: float) -> None:
        """Do it when it is time, and see when rows come again."""
        from tests.support.server_control import restart

        if self.answers_at is None:
            if share >= _DATABASE_AT:
                restart(cluster.database)
                self.answers_at = time.monotonic()
                self._rows_then = stored(cluster.database)  # not before: a commit may have come in between
        elif self.back_seconds is None and (stored(cluster.database) or 0) > (self._rows_then or 0):
            self.back_seconds = time.monotonic() - self.answers_at

    def over(self) -> bool:
        """Whether rows are stored again."""
        return self.back_seconds is not None

    def told(self, cluster: Cluster) -> dict[str, Any]:
        """Return how long it took until the next row was stored."""
        return {"restart_database": {"stores_again_seconds": _after(0.0, self.back_seconds)}}


@dataclass(slots=True)
class KillHead:
    """Kills the daemon once and starts it again; the workers must find it by themselves."""

    killed_at: float | None = None
    started_at: float | None = None
    _stored_then: float = 0.0
    back_seconds: float | None = field(default=None)  # from its start until a row was stored

    def turn(self, cluster: Cluster, share: float) -> None:
        """Kill it, and start it when it was away for a while."""
        if self.killed_at is None:
            if share >= _HEAD_AT:
                cluster.kill_head()
                self.killed_at = time.monotonic()
        elif self.started_at is None:
            if time.monotonic() > self.killed_at + _HEAD_AWAY_SECONDS:
                self._stored_then = share
                cluster.start_head()
                self.started_at = time.monotonic()
        elif self.back_seconds is None and share > self._stored_then:
            self.back_seconds = time.monotonic() - self.started_at

    def over(self) -> bool:
        """Whether it works again."""
        return self.back_seconds is not None

    def told(self, cluster: Cluster) -> dict[str, Any]:
        """Return how long it took until the next row was stored."""
        back = self.back_seconds
        return {"kill_head": {"stores_again_seconds": None if back is None else round(back, 1)}}
