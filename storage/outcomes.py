"""How outcomes become rows: the result, the attempt and the state of each, in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from storage.names import Names
from storage.records import Failed, Judged, Outcome
from storage.retry import RetryPolicy, Step, next_step
from storage.schema import ERROR_CODE, STATUS_CODES, FileState, MoveState, attempt, file, result
from storage.tallies import TallyChanges

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Context:
    """What all outcomes of one transaction share."""

    connection: sa.Connection
    names: Names
    model_id: int
    now_us: int
    retry: RetryPolicy


@dataclass(slots=True)
class _Rows:
    """What is to be written, collected so that each table is written by one statement."""

    results: list[dict[str, Any]] = field(default_factory=list)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    tallies: TallyChanges = field(default_factory=TallyChanges)


def store(context: Context, outcomes: Sequence[Outcome], moving: Collection[FileState]) -> None:
    """Write the rows of all outcomes; `moving` are the states after which a move is due."""
    # Of several outcomes for one file the last counts: one statement must not upsert a row twice.
    latest = {outcome.file_id: outcome for outcome in outcomes}
    rows = _Rows()
    for held in _held(context, list(latest)):
        _one(context, held, latest[held.id], moving, rows)
    connection = context.connection
    if rows.results:
        connection.execute(_UPSERT, rows.results)
    if rows.attempts:
        connection.execute(attempt.insert(), rows.attempts)
    if rows.states:
        connection.execute(_SET_STATE, rows.states)
    rows.tallies.write(connection)


def drop_errors(
    connection: sa.Connection, names: Names, file_ids: Sequence[int], changes: TallyChanges
) -> None:
    """Delete the error rows of files, and uncount them."""
    for start in range(0, len(file_ids), _CHUNK):
        ids = file_ids[start : start + _CHUNK]
        condition = result.c.file_id.in_(ids) & (result.c.status == ERROR_CODE)
        query = sa.select(file.c.folder_id, result.c.model_id, result.c.label_id, result.c.completed_us)
        for row in connection.execute(query.join_from(result, file).where(condition)):
            inbox_id = names.folder(row.folder_id)[0]
            changes.add(-1, row.completed_us, (inbox_id, row.model_id, row.label_id or 0, ERROR_CODE))
        connection.execute(result.delete().where(condition))


def _held(context: Context, ids: Sequence[int]) -> list[Any]:
    """Return what the ledger holds of the files, with the result they already have under this model."""
    rows: list[Any] = []
    for start in range(0, len(ids), _CHUNK):
        values = {"ids": ids[start : start + _CHUNK], "model_id": context.model_id}
        rows += context.connection.execute(_HELD, values)
    return rows


def _one(context: Context, held: Any, outcome: Outcome, moving: Collection[FileState], rows: _Rows) -> None:
    if held.state == FileState.SUPERSEDED:
        return
    if isinstance(outcome.result, Judged):
        _set_state(rows, held, Step(FileState.DONE, ""), 0, moving)
        _add_result(context, held, outcome, rows, _judged(context, outcome.result))
    elif held.state == FileState.PENDING:
        _failed(context, held, outcome, moving, rows)


def _failed(
    context: Context, held: Any, outcome: Outcome, moving: Collection[FileState], rows: _Rows
) -> None:
    failed = outcome.result
    assert isinstance(failed, Failed)
    attempts = held.attempts + 1
    step = next_step(failed, attempts, held.first_seen_us, context.now_us, context.retry)
    _set_state(rows, held, step, attempts, moving)
    if step.state in (FileState.GONE, FileState.CHANGED):
        return
    reason_id = context.names.reason_id(step.reason)
    rows.attempts.append(
        {
            "file_id": held.id,
            "model_id": context.model_id,
            "at_us": context.now_us,
            "kind": failed.kind.value,
            "reason_id": reason_id,
        }
    )
    if step.state is FileState.QUARANTINED:
        _add_result(context, held, outcome, rows, {"status": ERROR_CODE, "reason_id": reason_id})


def _set_state(rows: _Rows, held: Any, step: Step, attempts: int, moving: Collection[FileState]) -> None:
    rows.states.append(
        {
            "b_id": held.id,
            "state": int(step.state),
            "attempts": attempts,
            "not_before_us": step.not_before_us,
            "move": int(MoveState.DUE) if step.state in moving and held.move is None else held.move,
        }
    )


def _judged(context: Context, judged: Judged) -> dict[str, Any]:
    names = context.names
    return {
        "status": STATUS_CODES[judged.status],
        "label_id": None if judged.label is None else names.label_id(judged.label),
        "confidence": judged.confidence,
        "reason_id": None if judged.reason is None else names.reason_id(judged.reason),
        "slice_index": judged.slice_index,
        "slice_count": judged.slice_count,
        "tags": None if judged.tags is None else json.dumps(judged.tags, sort_keys=True),
    }


def _add_result(context: Context, held: Any, outcome: Outcome, rows: _Rows, values: dict[str, Any]) -> None:
    row: dict[str, Any] = dict.fromkeys(_RESULT_COLUMNS) | values
    row |= {
        "file_id": held.id,
        "model_id": context.model_id,
        "completed_us": context.now_us,
        "duration_us": outcome.duration_us,
        "sha256": outcome.sha256,
    }
    rows.results.append(row)
    inbox_id = context.names.folder(held.folder_id)[0]
    if held.status is not None:
        old = (inbox_id, context.model_id, held.label_id or 0, held.status)
        rows.tallies.add(-1, held.completed_us, old)
    new = (inbox_id, context.model_id, row["label_id"] or 0, row["status"])
    rows.tallies.add(1, context.now_us, new)


_RESULT_COLUMNS = [column.name for column in result.columns if column.name != "id"]
_HELD = (
    sa.select(
        file.c.id,
        file.c.state,
        file.c.attempts,
        file.c.first_seen_us,
        file.c.folder_id,
        file.c.move,
        result.c.status,
        result.c.label_id,
        result.c.completed_us,
    )
    .join_from(
        file,
        result,
        (result.c.file_id == file.c.id) & (result.c.model_id == sa.bindparam("model_id")),
        isouter=True,
    )
    .where(file.c.id.in_(sa.bindparam("ids", expanding=True)))
)
_INSERT = insert(result)
_UPSERT = _INSERT.on_conflict_do_update(
    index_elements=[result.c.file_id, result.c.model_id],
    set_={name: _INSERT.excluded[name] for name in _RESULT_COLUMNS if name not in ("file_id", "model_id")},
)
_SET_STATE = file.update().where(file.c.id == sa.bindparam("b_id"))
