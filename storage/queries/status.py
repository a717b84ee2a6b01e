"""Status: everything `bt-daemon status` shows that the database knows."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from storage.database import reading
from storage.ledger.heartbeat import Counts, Heartbeat, counts, latest_heartbeat, move_troubles
from storage.queries.results import count
from storage.queries.totals import ModelSummaryRow, Totals, summary_by_model, totals
from storage.query import Query
from storage.records import Status
from storage.schema import result

_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """Everything `bt-daemon status` shows that the database knows."""

    heartbeat: Heartbeat | None  # of the daemon that started last
    counts: Counts
    results: int
    totals: Totals | None  # images and judgements; None: not asked for
    by_status: dict[Status, int]
    by_kind: tuple[ModelSummaryRow, ...]  # the same by model, class and status
    results_last_minute: int
    last_result_us: int | None
    move_troubles: dict[str, int]  # why moves could not be done yet -> how many


def status_snapshot(connection: sa.Connection, now_us: int, *, with_totals: bool = False) -> StatusSnapshot:
    """Return the whole picture from one consistent view; fast however many results there are.

    Images are told from judgements `with_totals` only: with several models that may take a second.
    """
    with reading(connection):
        by_status: dict[Status, int] = {}
        by_kind = tuple(summary_by_model(connection, Query()))
        for row in by_kind:
            by_status[row.status] = by_status.get(row.status, 0) + row.count
        last = sa.select(sa.func.max(result.c.completed_us))
        return StatusSnapshot(
            heartbeat=latest_heartbeat(connection),
            counts=counts(connection),
            results=sum(by_status.values()),
            totals=totals(connection, Query()) if with_totals else None,
            by_status=by_status,
            by_kind=by_kind,
            results_last_minute=count(connection, Query(since_us=now_us - _MINUTE_US)),
            last_result_us=connection.execute(last).scalar_one(),
            move_troubles=move_troubles(connection),
        )
