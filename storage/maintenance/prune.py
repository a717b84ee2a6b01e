"""Delete old results without forgetting the files that still lie in their inboxes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage.counters import TallyChanges, drop_empty
from storage.database import reading, writing
from storage.ledger.heartbeat import latest_heartbeat
from storage.ledger.ids import Names
from storage.ledger.series_verdicts import ReadRule, SeriesVerdicts, VotingRules, drop_empty_series
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


def prune(connection: sa.Connection, before_us: int, read_rule: ReadRule) -> Pruned:
    """Delete what was completed before a time, bite by bite, while the daemon goes on writing.

    Series keep the verdict of what is left of them, by their model's rule, which `read_rule` reads.
    A file that still lies in its inbox stays known, without a result: forgotten, it would be judged
    anew. The room becomes free inside the database and is used again.
    """
    results = 0
    while deleted := _prune_results(connection, before_us, read_rule):
        results += deleted
    files = _prune_files(connection, before_us)
    with writing(connection):
        drop_empty(connection)
        drop_empty_series(connection)
    return Pruned(results, files)


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


def _prune_results(connection: sa.Connection, before_us: int, read_rule: ReadRule) -> int:
    """Delete and uncount one bite of results; return how many."""
    query = (
        sa.select(
            result.c.id,
            folder.c.inbox_id,
            result.c.model_id,
            result.c.label_id,
            result.c.status,
            result.c.completed_us,
            result.c.series_id,
        )
        .select_from(result.outerjoin(file).outerjoin(folder))
        .where(result.c.completed_us < before_us)
        .order_by(result.c.completed_us)
        .limit(_BITE)
    )
    changes = TallyChanges()
    verdicts = SeriesVerdicts(connection, Names(connection), VotingRules(read_rule))
    with writing(connection):
        ids = []
        for row in connection.execute(query):
            kind = (row.inbox_id, row.model_id, row.label_id or 0, row.status)
            changes.add(-1, row.completed_us, kind)
            ids.append(row.id)
            if row.series_id is not None:
                verdicts.change(row.series_id, row.model_id)
        _delete(connection, result.c.id, ids)
        changes.write(connection)
        verdicts.write()
    return len(ids)


def _prune_files(connection: sa.Connection, before_us: int) -> int:
    """Delete the versions first seen before a time that have no result and no file any more."""
    last = count = 0
    roots: dict[bytes, bool] = {}
    has_result = sa.exists().where(result.c.file_id == file.c.id)
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
            .where(file.c.id > last, file.c.first_seen_us < before_us, ~IS_PENDING, ~has_result)
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


def _delete(connection: sa.Connection, column: sa.Column[Any], values: Sequence[int]) -> None:
    for start in range(0, len(values), _IN_CHUNK):
        chunk = values[start : start + _IN_CHUNK]
        connection.execute(column.table.delete().where(column.in_(chunk)))
