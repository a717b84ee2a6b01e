"""Delete old results without forgetting the files that still lie in their inboxes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from storage.counters import TallyChanges, drop_empty
from storage.database import reading, writing
from storage.ledger.heartbeat import latest_heartbeat
from storage.ledger.ids import Names
from storage.ledger.series_verdicts import ReadRule, SeriesVerdicts, VotingRules, drop_empty_series
from storage.queries.review_sql import ANSWERED, has_review
from storage.schema import (
    IS_PENDING,
    FileState,
    MoveState,
    attempt,
    file,
    folder,
    inbox,
    model,
    result,
    review,
    tally,
)

# Rows per transaction: the daemon waits for the write lock no longer than one such bite takes.
_BITE = 2_000
_IN_CHUNK = 500
# Versions nobody will ask about again: they are not what lies at their path.
_PASSED = frozenset({FileState.SUPERSEDED, FileState.GONE, FileState.CHANGED})


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning deleted."""

    results: int
    files: int
    kept: int = 0  # results that a person reviewed
    reviews: int = 0


def prune(
    connection: sa.Connection, before_us: int, read_rule: ReadRule, *, reviewed: bool = False
) -> Pruned:
    """Delete what was completed before a time, bite by bite, while the daemon goes on writing.

    What a person answered is kept, unless `reviewed`: then it goes with its reviews. Series keep the verdict
    of what is left of them, by their model's rule, which `read_rule` reads. A file that still lies in its
    inbox stays known, without a result: forgotten, it would be judged anew. The room becomes free inside
    the database and is used again.
    """
    results = kept = reviews = 0
    last = (-1, -1)
    while True:
        bite = _prune_results(connection, (last, before_us), read_rule, reviewed=reviewed)
        if bite is None:
            break
        last = bite.last
        results, kept, reviews = results + bite.deleted, kept + bite.kept, reviews + bite.reviews
    files = _prune_files(connection, before_us, reviewed=reviewed)
    with writing(connection):
        drop_empty(connection)
        drop_empty_series(connection)
    return Pruned(results, files, kept, reviews)


def models_named(connection: sa.Connection) -> set[str]:
    """Return the sha256 of the weights that results name, and those of the daemon that started last."""
    beat = latest_heartbeat(connection)
    told = {} if beat is None else beat.snapshot.get("model")
    latest = told.get("weights_sha256") if isinstance(told, dict) else None
    with reading(connection):
        named = sa.select(model.c.weights_sha256).where(
            model.c.id.in_(sa.select(tally.c.model_id).where(tally.c.count > 0))
        )
        found = set(connection.execute(named).scalars())
    return found | ({latest} if isinstance(latest, str) else set())


class _Bite(NamedTuple):
    """What one transaction looked at."""

    last: tuple[int, int]  # time and id of its last result
    deleted: int
    kept: int
    reviews: int


def _prune_results(
    connection: sa.Connection, between: tuple[tuple[int, int], int], read_rule: ReadRule, *, reviewed: bool
) -> _Bite | None:
    """Delete and uncount one bite of results behind the last one of the bite before; None: none is left."""
    after, before_us = between
    place = sa.tuple_(result.c.completed_us, result.c.id)
    query = (
        sa.select(
            *(result.c[name] for name in _COUNTED),
            folder.c.inbox_id,
            sa.false().label("kept") if reviewed else has_review(result.c.file_id, ANSWERED).label("kept"),
        )
        .select_from(result.outerjoin(file).outerjoin(folder))
        .where(result.c.completed_us < before_us, place > sa.tuple_(*map(sa.literal, after)))
        .order_by(result.c.completed_us, result.c.id)
        .limit(_BITE)
    )
    changes = TallyChanges()
    verdicts = SeriesVerdicts(connection, Names(connection), VotingRules(read_rule))
    with writing(connection):
        found = connection.execute(query).all()
        if not found:
            return None
        gone = [row for row in found if not row.kept]
        for row in gone:
            kind = (row.inbox_id, row.model_id, row.label_id or 0, row.status)
            changes.add(-1, row.completed_us, kind)
            if row.series_id is not None:
                verdicts.change(row.series_id, row.model_id)
        _delete(connection, result.c.id, [row.id for row in gone])
        reviews = _delete(connection, review.c.file_id, [row.file_id for row in gone], ~_IS_JUDGED)
        changes.write(connection)
        verdicts.write()
    last = (int(found[-1].completed_us), int(found[-1].id))
    return _Bite(last, len(gone), len(found) - len(gone), reviews)


def _prune_files(connection: sa.Connection, before_us: int, *, reviewed: bool) -> int:
    """Delete the versions first seen before a time that have no result and no file any more."""
    last = count = 0
    roots: dict[bytes, bool] = {}
    terms = [file.c.first_seen_us < before_us, ~IS_PENDING, ~sa.exists().where(result.c.file_id == file.c.id)]
    if not reviewed:
        terms.append(~has_review(file.c.id, ANSWERED))
    while True:
        query = (
            sa.select(
                file.c.id,
                file.c.state,
                file.c.move,
                file.c.name,
                folder.c.path.label("folder_path"),
                inbox.c.path.label("inbox_path"),
            )
            .select_from(file.join(folder).join(inbox))
            .where(file.c.id > last, *terms)
            .order_by(file.c.id)
            .limit(_BITE)
        )
        with reading(connection):
            found = connection.execute(query).all()
        if not found:
            return count
        last = found[-1].id
        # The folders are looked at outside any transaction: a slow disk must not hold the lock.
        ids = [row.id for row in found if _is_forgettable(row, roots)]
        with writing(connection):
            _delete(connection, attempt.c.file_id, ids)
            _delete(connection, review.c.file_id, ids)
            _delete(connection, file.c.id, ids)
        count += len(ids)


def _is_forgettable(row: Any, roots: dict[bytes, bool]) -> bool:
    if row.state in _PASSED or row.move == MoveState.MOVED:
        return True
    if row.move == MoveState.DUE:
        return False
    # An inbox that is away (unmounted, or empty as a mount point is) says nothing about its files.
    if row.inbox_path not in roots:
        roots[row.inbox_path] = _has_entries(row.inbox_path)
    path = os.path.join(row.inbox_path, row.folder_path, row.name)
    return roots[row.inbox_path] and not os.path.lexists(path)


def _has_entries(path: bytes) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def _delete(
    connection: sa.Connection,
    column: sa.Column[Any],
    values: Sequence[int],
    *terms: sa.ColumnElement[bool],
) -> int:
    """Delete the rows that have these values, as far as the terms let them; return how many."""
    count = 0
    for start in range(0, len(values), _IN_CHUNK):
        chunk = values[start : start + _IN_CHUNK]
        count += connection.execute(column.table.delete().where(column.in_(chunk), *terms)).rowcount
    return count


_COUNTED = ("id", "file_id", "model_id", "label_id", "status", "completed_us", "series_id")
# What was said of a file version goes with the last of its results.
_IS_JUDGED = sa.exists().where(result.c.file_id == review.c.file_id)
