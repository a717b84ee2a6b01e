"""Query reviews: those of one file, and those that a query lets through."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy as sa

from storage.database import reading
from storage.queries.results import EVERYTHING, row_terms
from storage.query import Query
from storage.reviews.answers import StoredReview
from storage.schema import (
    STANDS,
    STATUS_OF_CODE,
    FileState,
    ReviewAnswer,
    ReviewOrigin,
    file,
    folder,
    inbox,
    label,
    model,
    reason,
    result,
    review,
    reviewer,
    series,
)

_BATCH = 1_000  # rows fetched at a time while streaming


def review_rows(
    connection: sa.Connection, query: Query = EVERYTHING, *, withdrawn: bool = False
) -> Iterator[StoredReview]:
    """Yield reviews in the order they were stored (or its reverse); those withdrawn only when asked for.

    Of a query the time is that of the answer; every other filter is about the result that was seen. Its
    sort and `after` are not looked at.
    """
    terms = row_terms(connection, query, None, None) + _answered_between(query)
    if not withdrawn:
        terms.append(STANDS)
    order = review.c.id.desc() if query.reverse else review.c.id
    yield from _stored(connection, _SELECT.where(*terms).order_by(order).limit(query.limit))


def reviews_of(connection: sa.Connection, file_id: int) -> list[StoredReview]:
    """Return all that was ever said of one file version, withdrawn or not, oldest first."""
    return list(_stored(connection, _SELECT.where(review.c.file_id == file_id).order_by(review.c.id)))


def standing_reviews(connection: sa.Connection, file_ids: Collection[int]) -> list[StoredReview]:
    """Return what stands of what was said of these file versions, at most some thousand, oldest first."""
    chosen = review.c.file_id.in_(file_ids)
    return list(_stored(connection, _SELECT.where(chosen, STANDS).order_by(review.c.id)))


def _answered_between(query: Query) -> list[sa.ColumnElement[bool]]:
    terms: list[sa.ColumnElement[bool]] = []
    if query.since_us is not None:
        terms.append(review.c.at_us >= query.since_us)
    if query.until_us is not None:
        terms.append(review.c.at_us < query.until_us)
    return terms


def _stored(connection: sa.Connection, statement: sa.Select[Any]) -> Iterator[StoredReview]:
    with reading(connection), connection.execute(statement.execution_options(yield_per=_BATCH)) as found:
        for row in found:
            yield _review(row)


def _review(row: Any) -> StoredReview:
    return StoredReview(
        id=row.id,
        request_id=row.request_id,
        file_id=row.file_id,
        inbox=row.inbox_path,
        path=os.path.join(row.folder_path, row.file_name),
        moved_to=row.moved_to,
        sha256=row.sha256,
        model=row.model_name,
        model_version=row.version,
        weights_sha256=row.weights_sha256,
        reviewer=row.reviewer_name,
        answer=ReviewAnswer(row.answer),
        label=row.said,
        shown_label=row.shown,
        shown_status=None if row.shown_status is None else STATUS_OF_CODE[row.shown_status],
        origin=ReviewOrigin(row.origin),
        in_sample=bool(row.in_sample),
        note=row.note or "",
        at_us=row.at_us,
        withdrawn_us=row.withdrawn_us,
        superseded=row.state == FileState.SUPERSEDED,
        series_id=row.series_id,
        position=row.position,
        slice_count=row.slice_count,
        study_key=row.study_key,
        patient_key=row.patient_key,
    )


_said, _shown = label.alias("said"), label.alias("shown")
_OWN = ("id", "request_id", "file_id", "answer", "origin", "in_sample", "note", "at_us", "withdrawn_us")
# Outer joins, so that SQLite walks the reviews; with the tables that filters of results are about.
_SELECT = sa.select(
    *(review.c[name] for name in (*_OWN, "shown_status")),
    inbox.c.path.label("inbox_path"),
    folder.c.path.label("folder_path"),
    file.c.name.label("file_name"),
    *(file.c[name] for name in ("moved_to", "state")),
    *(result.c[name] for name in ("sha256", "series_id", "position", "slice_count")),
    model.c.name.label("model_name"),
    *(model.c[name] for name in ("version", "weights_sha256")),
    reviewer.c.name.label("reviewer_name"),
    _said.c.name.label("said"),
    _shown.c.name.label("shown"),
    *(series.c[name] for name in ("study_key", "patient_key")),
).select_from(
    review.outerjoin(
        result, (result.c.file_id == review.c.file_id) & (result.c.model_id == review.c.model_id)
    )
    .outerjoin(file, file.c.id == review.c.file_id)
    .outerjoin(folder, folder.c.id == file.c.folder_id)
    .outerjoin(inbox, inbox.c.id == folder.c.inbox_id)
    .outerjoin(model, model.c.id == review.c.model_id)
    .outerjoin(label, label.c.id == result.c.label_id)
    .outerjoin(reason, reason.c.id == result.c.reason_id)
    .outerjoin(reviewer, reviewer.c.id == review.c.reviewer_id)
    .outerjoin(_said, _said.c.id == review.c.label_id)
    .outerjoin(_shown, _shown.c.id == review.c.shown_label_id)
    .outerjoin(series, series.c.id == result.c.series_id)
)
