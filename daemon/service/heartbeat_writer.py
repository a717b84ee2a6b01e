"""Store the daemon's heartbeat about once a second, for `bt-daemon status`."""

from __future__ import annotations

import os
import socket
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from config.errors import DatabaseError
from config.text import printable_name
from storage.ledger.heartbeat import Heartbeat, store_heartbeat
from storage.records import Judged, Status
from storage.schema import FileState

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from daemon.engines.manifest import PreparedEngine
    from daemon.service.drift import DriftWatch
    from daemon.service.service import Service, Told
    from storage.lock import DaemonLock
    from trainer.model.spec import ModelSpec

_SECONDS_BETWEEN = 1.0
# When nothing happens the row is still refreshed, so that silence means trouble.
_SECONDS_AT_MOST = 5.0


class HeartbeatWriter:
    """A watcher of the service that keeps the daemon's row in the database fresh, and counts its results."""

    def __init__(
        self,
        connection: sa.Connection,
        prepared: PreparedEngine,
        spec: ModelSpec,
        started_us: int,
        lock: DaemonLock | None = None,
        *,
        drift: DriftWatch | None = None,
    ) -> None:
        """`lock` is where trouble is told too: a database that takes no rows takes no word of it either."""
        self._drift = drift
        self._results: Counter[tuple[str, str]] = Counter()  # (status, class or "") -> how many
        self._connection = connection
        self._lock = lock
        self._not_stored = ""
        self._started_us = started_us
        self._about = {
            "engine": {
                "name": prepared.kind,
                "precision": prepared.precision,
                "device": prepared.device,
                "why": prepared.why,
            },
            "model": {"name": spec.name, "version": spec.version, "weights_sha256": prepared.weights_sha256},
        }
        self._lane_restarts = 0
        self._lane_replaced_us: int | None = None
        self._last = self._told = float("-inf")
        self._changes: tuple[object, ...] = ()

    def stored(self, told: Sequence[Told]) -> None:
        """Count what was committed, by status and class: since the start, so that it only ever grows."""
        for one in told:
            result = one.outcome.result
            if isinstance(result, Judged) and one.state is FileState.DONE:
                self._results[result.status.value, result.label or ""] += 1
            elif one.state is FileState.QUARANTINED:
                self._results[Status.ERROR.value, ""] += 1

    def turned(self, service: Service) -> None:
        """Store the daemon's state if it is time to."""
        now = service.clock.monotonic()
        if self._lock is not None and (now - self._told >= _SECONDS_BETWEEN or service.trouble):
            self._told = now
            self._lock.tell(service.trouble or self._not_stored, service.clock.now_us())
        if now - self._last < _SECONDS_BETWEEN:
            return
        changes = _changes(service)
        if changes == self._changes and now - self._last < _SECONDS_AT_MOST:
            return
        self._changes = changes
        self.store(service)

    def store(self, service: Service, *, stopped: bool = False) -> None:
        """Store the daemon's state; a database that takes nothing now gets it with the next turn.

        Raises DatabaseLostError when the database is not the file it was.
        """
        if self._lock is not None:
            self._lock.check()
        self._last = service.clock.monotonic()
        now_us = service.clock.now_us()
        beat = Heartbeat(
            host=socket.gethostname(),
            pid=os.getpid(),
            started_us=self._started_us,
            updated_us=now_us,
            stopped_us=now_us if stopped else None,
            snapshot=self._snapshot(service),
        )
        try:
            with service.ledger.transaction():
                store_heartbeat(self._connection, beat)
            self._not_stored = ""
        except DatabaseError as error:
            if not error.transient:
                raise
            self._not_stored = str(error)

    def _snapshot(self, service: Service) -> dict[str, Any]:
        if service.workers.restarts != self._lane_restarts:
            self._lane_restarts, self._lane_replaced_us = service.workers.restarts, service.clock.now_us()
        return {
            **self._about,
            "inboxes": [_inbox(inbox.health(), service.clock.now_us()) for inbox in service.inboxes],
            "counters": asdict(service.counters),
            "results": [[*kind, number] for kind, number in sorted(self._results.items())],
            "drift": None if self._drift is None else self._drift.snapshot(),
            "waiting": service.waiting,
            "lane_restarts": service.workers.restarts,
            "lane_replaced_us": self._lane_replaced_us,
            "workers": asdict(service.workers.census()),
            "remote_workers": _remote_workers(service),
            "trouble": service.trouble,
            "trouble_of": "workers" if service.trouble == service.workers.trouble else "database",
            "last_error": service.counters.last_error,
        }


def _changes(service: Service) -> tuple[object, ...]:
    """Return what is told at once when it changes: new results, and whatever makes a daemon well or ill."""
    states = tuple(inbox.health().state for inbox in service.inboxes)
    elsewhere = tuple((one.name, one.refused) for one in service.workers.remote_workers())
    return service.counters.stored_transactions, service.trouble, states, service.workers.census(), elsewhere


def _remote_workers(service: Service) -> list[dict[str, Any]]:
    now_us = service.clock.now_us()
    found = [asdict(worker) for worker in service.workers.remote_workers()]
    return [told | {"heard_us": now_us - int(told.pop("silent_seconds") * 1e6)} for told in found]


def _inbox(health: Any, now_us: int) -> dict[str, Any]:
    told = asdict(health)
    told["path"] = printable_name(told.pop("root"))
    age = told.pop("last_scan_age_seconds")
    told["last_scan_us"] = None if age is None else now_us - int(age * 1e6)
    told["found_by_scan"] = told["found_by_scan_only"]
    return told
