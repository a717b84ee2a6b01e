"""Observation: a running daemon's state, read from its database as `bt-daemon status` reads it.

So a notification says what status, page, probes and metrics say, and the daemon's loop has no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from config.errors import DatabaseError
from daemon.notify.result_rule import ResultRule
from daemon.views.daemon_status import daemon_status, drift_findings
from daemon.views.health_check import UNREADABLE, Health, health
from storage.database import Target, open_reader, reading
from storage.lock import lock_holder
from storage.queries.results import count, last_result_id, rows
from storage.queries.status import status_snapshot
from storage.query import Query, Sort

if TYPE_CHECKING:
    import sqlalchemy as sa

    from storage.queries.results import ResultRow


@dataclass(frozen=True, slots=True)
class Matches:
    """Results that a rule asks for, stored since the observation before."""

    rule: ResultRule
    count: int
    latest: ResultRow


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen at one time; None: not known, the database could not be read."""

    time_us: int
    health: Health
    quarantined: int | None = None
    drifting: frozenset[str] | None = None  # names of statistics
    matches: tuple[Matches, ...] = ()


class DatabaseObserver:
    """Looks at the database; each look opens and closes a connection of its own, which only reads."""

    def __init__(self, database: Target, rules: Sequence[ResultRule]) -> None:
        self._database = database
        self._rules = rules
        self._last: int | None = None  # id of the last result that was looked at

    def look(self, now_us: int) -> Observation:
        """Return the state now; results are those since the last look, none at the first."""
        try:
            with closing(open_reader(self._database)) as connection, reading(connection):
                return self._seen(connection, now_us)
        except DatabaseError:
            return Observation(now_us, UNREADABLE)

    def _seen(self, connection: sa.Connection, now_us: int) -> Observation:
        stored = status_snapshot(connection, now_us)
        status = daemon_status(stored, lock_holder(self._database), "", now_us)
        findings = drift_findings(status).items()
        return Observation(
            now_us,
            health(status, UTC),
            stored.counts.quarantined,
            frozenset(name for name, found in findings if found.get("state") == "drift"),
            self._matches(connection),
        )

    def _matches(self, connection: sa.Connection) -> tuple[Matches, ...]:
        newest = last_result_id(connection)
        before, self._last = self._last, newest
        if before is None or newest <= before:
            return ()
        found = []
        for rule in self._rules:
            query = Query(
                labels=(rule.label,), min_confidence=rule.least, after_result_id=before, sort=Sort.ID, limit=1
            )
            for latest in list(rows(connection, query)):
                found.append(Matches(rule, count(connection, query), latest))
        return tuple(found)
