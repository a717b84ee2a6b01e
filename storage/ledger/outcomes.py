"""Store outcomes: the result, the attempt and the state of each, in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from storage.counters import TallyChanges
from storage.ledger.ids import Names, chunks
from storage.ledger.retry import RetryPolicy, Step, next_step
from storage.ledger.series_keeper import Belonging, SeriesChanges
from storage.ledger.series_verdicts import Contribution
from storage.ledger.votes import encoded
from storage.records import Failed, Judged, Outcome
from storage.schema import ERROR_CODE, STATUS_CODES, FileState, MoveState, attempt, file, result
from storage.statements import PreparedIn
from storage.upsert import Upsert, many_inserts, many_updates, many_upserts


@dataclass(frozen=True, slots=True)
class Context:
    """What all outcomes of one transaction share."""

    connection: sa.Connection
    names: Names
    model_id: int
    now_us: int
    retry: RetryPolicy
    series: SeriesChanges


class _Held(NamedTuple):
    """What the ledger holds of a file, with the result it already has under this model."""

    id: int
    state: int
    attempts: int
    first_seen_us: int
    folder_id: int
    name: bytes
    move: int | None
    status: int | None
    label_id: int | None
    completed_us: int
    series_id: int | None


@dataclass(frozen=True, slots=True)
class _Result:
    """What differs between a judgement's row and an error's."""

    status: int
    label_id: int | None = None
    confidence: float | None = None
    reason_id: int | None = None
    slices: tuple[int | None, int | None] = (None, None)
    tags: str | None = None
    score: float | None = None
    belonging: Belonging | None = None
    votes: bytes | None = None


@dataclass(slots=True)
class _Rows:
    """What is to be written, collected so that each table is written by one statement."""

    results: list[tuple[Any, ...]] = field(default_factory=list)  # _RESULT_COLUMNS
    attempts: list[tuple[Any, ...]] = field(default_factory=list)  # _ATTEMPT_COLUMNS
    states: list[tuple[Any, ...]] = field(default_factory=list)  # _STATE_COLUMNS
    tallies: TallyChanges = field(default_factory=TallyChanges)


def store(
    context: Context, outcomes: Sequence[Outcome], moving: Collection[FileState]
) -> dict[int, FileState]:
    """Write the rows of all outcomes; `moving` are the states after which a move is due.

    Return the state that each file has now; a file whose outcome came too late is not named.
    """
    # Of several outcomes for one file the last counts: one statement must not upsert a row twice.
    latest = {outcome.file_id: outcome for outcome in outcomes}
    rows = _Rows()
    for row in _HELD.all(context.connection, (context.model_id,), list(latest)):
        held = _Held(*row)
        _one(context, held, latest[held.id], moving, rows)
    connection = context.connection
    _UPSERT.write(connection, rows.results)
    _ADD_ATTEMPT.write(connection, rows.attempts)
    _SET_STATE.write(connection, rows.states)
    rows.tallies.write(connection)
    context.series.write()
    return {row[-1]: FileState(row[0]) for row in rows.states}


def drop_errors(
    connection: sa.Connection, names: Names, file_ids: Sequence[int], changes: TallyChanges
) -> None:
    """Delete the error rows of files, and uncount them."""
    for ids in chunks(file_ids):
        condition = result.c.file_id.in_(ids) & (result.c.status == ERROR_CODE)
        query = sa.select(file.c.folder_id, result.c.model_id, result.c.label_id, result.c.completed_us)
        for row in connection.execute(query.join_from(result, file).where(condition)):
            inbox_id = names.folder(row.folder_id)[0]
            changes.add(-1, row.completed_us, (inbox_id, row.model_id, row.label_id or 0, ERROR_CODE))
        connection.execute(result.delete().where(condition))


def _one(context: Context, held: _Held, outcome: Outcome, moving: Collection[FileState], rows: _Rows) -> None:
    if held.state == FileState.SUPERSEDED:
        return
    if isinstance(outcome.result, Judged):
        _set_state(rows, held, Step(FileState.DONE, ""), 0, moving)
        _add_judged(context, held, outcome, outcome.result, rows)
    elif held.state == FileState.PENDING:
        _failed(context, held, outcome, moving, rows)


def _failed(
    context: Context, held: _Held, outcome: Outcome, moving: Collection[FileState], rows: _Rows
) -> None:
    failed = outcome.result
    assert isinstance(failed, Failed)
    attempts = held.attempts + 1
    step = next_step(failed, attempts, held.first_seen_us, context.now_us, context.retry)
    _set_state(rows, held, step, attempts, moving)
    if step.state in (FileState.GONE, FileState.CHANGED):
        return
    reason_id = context.names.reason_id(step.reason)
    rows.attempts.append((held.id, context.model_id, context.now_us, failed.kind.value, reason_id))
    if step.state is FileState.QUARANTINED:
        _add_result(context, held, outcome, _Result(ERROR_CODE, reason_id=reason_id), rows)


def _set_state(rows: _Rows, held: _Held, step: Step, attempts: int, moving: Collection[FileState]) -> None:
    move = int(MoveState.DUE) if step.state in moving and held.move is None else held.move
    rows.states.append((int(step.state), attempts, step.not_before_us, move, held.id))


def _add_judged(context: Context, held: _Held, outcome: Outcome, judged: Judged, rows: _Rows) -> None:
    names = context.names
    belonging = context.series.of(held.folder_id, held.name, judged)
    votes = None if judged.votes is None else encoded(judged.votes, judged.rejected)
    row = _Result(
        status=STATUS_CODES[judged.status],
        label_id=None if judged.label is None else names.label_id(judged.label),
        confidence=judged.confidence,
        reason_id=None if judged.reason is None else names.reason_id(judged.reason),
        slices=(judged.slice_index, judged.slice_count),
        tags=None if judged.tags is None else json.dumps(judged.tags, sort_keys=True),
        score=judged.score,
        belonging=belonging,
        votes=votes,
    )
    _add_result(context, held, outcome, row, rows)
    if belonging is None:
        return
    if held.status is not None:
        context.series.change(belonging.series_id, context.model_id)
        return
    said = (judged.label, judged.confidence, judged.score, votes, judged.slice_count, context.now_us)
    context.series.add(belonging.series_id, context.model_id, Contribution(held.id, row.status, *said))


def _add_result(context: Context, held: _Held, outcome: Outcome, row: _Result, rows: _Rows) -> None:
    model_id, now_us = context.model_id, context.now_us
    judged = (row.label_id, row.status, row.confidence, now_us, outcome.duration_us, outcome.sha256)
    series = (None, None) if row.belonging is None else row.belonging
    rest = (row.tags, row.score, *series, row.votes)
    rows.results.append((held.id, model_id, *judged, row.reason_id, *row.slices, *rest))
    if held.series_id is not None:
        context.series.change(held.series_id, model_id)
    inbox_id = context.names.folder(held.folder_id)[0]
    if held.status is not None:
        rows.tallies.add(-1, held.completed_us, (inbox_id, model_id, held.label_id or 0, held.status))
    rows.tallies.add(1, now_us, (inbox_id, model_id, row.label_id or 0, row.status))


_HELD = PreparedIn(
    lambda ids: (
        sa.select(*((file if name in file.c else result).c[name] for name in _Held._fields))
        .join_from(
            file,
            result,
            (result.c.file_id == file.c.id) & (result.c.model_id == sa.bindparam("model_id")),
            isouter=True,
        )
        .where(file.c.id.in_(ids))
    ),
    ["model_id"],
)
_RESULT_COLUMNS = [column.name for column in result.columns if column.name != "id"]
_RESULT_KEYS = ("file_id", "model_id")
_UPSERT = many_upserts(
    Upsert(
        result,
        _RESULT_KEYS,
        lambda new: {name: new[name] for name in _RESULT_COLUMNS if name not in _RESULT_KEYS},
    ),
    _RESULT_COLUMNS,
)
_ATTEMPT_COLUMNS = ["file_id", "model_id", "at_us", "kind", "reason_id"]
_ADD_ATTEMPT = many_inserts(attempt, _ATTEMPT_COLUMNS)
_STATE_COLUMNS = ["state", "attempts", "not_before_us", "move", "id"]
_SET_STATE = many_updates(file, _STATE_COLUMNS, "id")
