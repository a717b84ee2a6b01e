"""Heartbeat: the daemon's one row about itself, and how much waits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage.database import reading
from storage.schema import IS_MOVE_DUE, IS_PENDING, IS_QUARANTINED, file, heartbeat
from storage.upsert import Upsert, many_upserts

# So many runs are remembered: enough to see that a daemon keeps dying.
_KEPT = 20


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a running daemon says about itself, again and again."""

    host: str
    pid: int
    started_us: int
    updated_us: int
    stopped_us: int | None  # None: it runs, or it died without a word
    snapshot: dict[str, Any]  # JSON: inboxes, engine, model, counters, last scan, why degraded


@dataclass(frozen=True, slots=True)
class Counts:
    """How much waits; `retrying` is part of `pending`."""

    pending: int
    retrying: int
    quarantined: int
    moves_due: int
    oldest_pending_us: int | None  # when the longest waiting version was first seen


def store_heartbeat(connection: sa.Connection, beat: Heartbeat) -> None:
    """Write the daemon's one row, within the caller's transaction."""
    run = (beat.host, beat.pid, beat.started_us)
    _UPSERT.write(connection, [(*run, beat.updated_us, beat.stopped_us, json.dumps(beat.snapshot))])
    newest = sa.select(heartbeat.c.id).order_by(heartbeat.c.id.desc()).limit(_KEPT)
    connection.execute(heartbeat.delete().where(heartbeat.c.id.not_in(newest)))


def latest_heartbeat(connection: sa.Connection) -> Heartbeat | None:
    """Return what the daemon that started last said last, None if none ever ran."""
    with reading(connection):
        row = connection.execute(sa.select(heartbeat).order_by(heartbeat.c.id.desc()).limit(1)).one_or_none()
    if row is None:
        return None
    return Heartbeat(
        row.host, row.pid, row.started_us, row.updated_us, row.stopped_us, json.loads(row.snapshot)
    )


def move_troubles(connection: sa.Connection) -> dict[str, int]:
    """Return why moves of finished files could not be done so far, and how many wait for each reason."""
    query = sa.select(file.c.move_trouble, sa.func.count()).where(
        IS_MOVE_DUE, file.c.move_trouble.is_not(None)
    )
    with reading(connection):
        rows = connection.execute(query.group_by(file.c.move_trouble)).all()
    return {str(reason): int(number) for reason, number in rows}


def counts(connection: sa.Connection) -> Counts:
    """Return how much waits; the cost grows with what waits, not with what is done."""
    with reading(connection):
        pending = connection.execute(
            sa.select(
                sa.func.count(),
                sa.func.count().filter(file.c.attempts > 0),
                sa.func.min(file.c.first_seen_us),
            ).where(IS_PENDING)
        ).one()
        quarantined = connection.execute(sa.select(sa.func.count()).where(IS_QUARANTINED)).scalar_one()
        moves = connection.execute(sa.select(sa.func.count()).where(IS_MOVE_DUE)).scalar_one()
    return Counts(pending[0], pending[1], quarantined, moves, pending[2])


_KEYS, _TOLD = ("host", "pid", "started_us"), ("updated_us", "stopped_us", "snapshot")
_UPSERT = many_upserts(
    Upsert(heartbeat, _KEYS, lambda new: {name: new[name] for name in _TOLD}), [*_KEYS, *_TOLD]
)
