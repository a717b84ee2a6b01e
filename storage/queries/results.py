"""Query results: filter, sort, page by key, count and sum up.

Every command and page that shows results asks here; none writes a query of its own.

Counts come from the tallies wherever the filter allows: whole days and minutes are added up, and only
the rows in the cut-off minutes at both ends are counted one by one (see `storage.counters`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from storage.counters import Span, split
from storage.database import reading
from storage.portable_sql import ZERO, by_bytes, has_bytes, lowered, total
from storage.queries.review_sql import review_term
from storage.queries.score_sql import doubt, doubt_column, score_column
from storage.query import Key, Query, ReviewFilter, Sort
from storage.records import Status
from storage.schema import (
    STATUS_CODES,
    STATUS_OF_CODE,
    TALLY_SECONDS,
    FileState,
    file,
    folder,
    inbox,
    label,
    model,
    reason,
    result,
    tally,
)

EVERYTHING = Query()
_BATCH = 1_000  # rows fetched at a time while streaming
DAY_SECONDS = max(TALLY_SECONDS)
_DAY_US = DAY_SECONDS * 1_000_000


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One result with everything that is known about it."""

    id: int  # of the file version: what `show` and `retry` take
    result_id: int  # grows with every commit
    inbox: bytes  # absolute path
    path: bytes  # relative to the inbox
    status: Status
    label: str | None
    confidence: float | None
    reason: str | None
    completed_us: int
    duration_us: int
    model: str
    model_version: str
    weights_sha256: str
    engine: str
    precision: str
    device: str
    size: int  # bytes
    sha256: bytes | None
    slice_index: int | None
    slice_count: int | None
    tags: dict[str, str] | None
    superseded: bool  # a newer version of the file has come since
    moved_to: bytes | None  # absolute path, when the file was moved after its result was stored
    # What was compared with what, see `storage.queries.score_sql`; None where it is not known.
    score: float | None = None  # calibrated probability of `positive`, of rejected images too
    positive: str | None = None  # the class of interest; None: the score is the likeliest class's
    threshold: float | None = None  # score from which the label is `positive`
    uncertain_low: float | None = None  # the band in which a result is uncertain: low <= score < high
    uncertain_high: float | None = None

    @property
    def full_path(self) -> bytes:
        """Where the file was left, absolute; it may have been deleted since."""
        return self.moved_to or os.path.join(self.inbox, self.path)

    def key(self, sort: Sort = Sort.TIME) -> Key:
        """Return what `Query.after` takes to go on behind this row."""
        values: dict[Sort, int | float | str | bytes] = {
            Sort.TIME: self.completed_us,
            Sort.CONFIDENCE: -1.0 if self.confidence is None else self.confidence,
            Sort.SCORE: -1.0 if self.score is None else self.score,
            Sort.DOUBT: doubt(self.label, self.score, self.threshold),
            Sort.FILE: self.path,
            Sort.CLASS: self.label or "",
            Sort.STATUS: STATUS_CODES[self.status],
            Sort.ID: self.result_id,
        }
        return values[sort], self.result_id


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """How many results have this class and status."""

    label: str | None
    status: Status
    count: int


def rows(connection: sa.Connection, query: Query = EVERYTHING) -> Generator[ResultRow]:
    """Yield the results, one at a time, in constant memory where the sort is by time or id.

    The iterator holds one consistent view of the database until it is used up or closed.
    """
    left = query.limit
    with reading(connection):
        for since_us, until_us in _stretches(connection, query):
            part = replace(query, since_us=since_us, until_us=until_us, limit=left)
            statement = _select(connection, part).execution_options(yield_per=_BATCH)
            with connection.execute(statement) as found:
                for row in found:
                    left = None if left is None else left - 1
                    yield result_row(row)
            if left == 0:
                return


def count(connection: sa.Connection, query: Query = EVERYTHING) -> int:
    """Return how many results (judgements) there are, whatever the limit; `totals` counts images."""
    return sum(row.count for row in summary(connection, query))


def summary(connection: sa.Connection, query: Query = EVERYTHING) -> list[SummaryRow]:
    """Return how many results there are by class and status, most frequent first, whatever the limit."""
    with reading(connection):
        sums: dict[tuple[int, int], int] = {}
        for _, label_id, status, number in grouped(connection, query):
            sums[label_id, status] = sums.get((label_id, status), 0) + number
        names = dict(connection.execute(sa.select(label.c.id, label.c.name)).all())
    found = [
        SummaryRow(names.get(label_id), STATUS_OF_CODE[status], number)
        for (label_id, status), number in sums.items()
        if number
    ]
    return sorted(found, key=lambda row: (-row.count, row.status, row.label or ""))


def labels(connection: sa.Connection) -> list[str]:
    """Return every class name that was ever stored, sorted."""
    with reading(connection):
        return sorted(connection.execute(sa.select(label.c.name)).scalars())


def last_result_id(connection: sa.Connection) -> int:
    """Return the id of the latest commit's last result, 0 if there is none; `--follow` starts here."""
    with reading(connection):
        return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(result.c.id), 0))).scalar_one())


def _stretches(connection: sa.Connection, query: Query) -> Iterator[tuple[int | None, int | None]]:
    """Yield the time ranges to look into, in the order of the rows.

    For a rare class or status the tallies name the days that have any: without them, the last of few
    results would be searched for through all the others.
    """
    chosen = query.labels or query.statuses or query.model is not None or query.inbox is not None
    if not chosen or query.sort is not Sort.TIME or query.review not in (None, ReviewFilter.NONE):
        yield query.since_us, query.until_us
        return
    since_us = None if query.since_us is None else query.since_us - query.since_us % _DAY_US
    terms = tally_terms(connection, query, Span(DAY_SECONDS, since_us, query.until_us))
    days = sa.select(tally.c.start_us).where(*terms, tally.c.count > 0).distinct().order_by(tally.c.start_us)
    ranges: list[tuple[int, int]] = []
    for start_us in connection.execute(days).scalars():
        first = ranges.pop()[0] if ranges and ranges[-1][1] == start_us else start_us
        ranges.append((first, start_us + _DAY_US))
    for start_us, end_us in ranges if query.reverse else reversed(ranges):
        yield (
            start_us if query.since_us is None else max(start_us, query.since_us),
            end_us if query.until_us is None else min(end_us, query.until_us),
        )


def grouped(connection: sa.Connection, query: Query) -> Iterator[tuple[int, int, int, int]]:
    """Yield (model_id, label_id or 0, status code, number of results), several for the same three."""
    if query.review is ReviewFilter.NONE:  # all but the few that were reviewed
        yield from grouped(connection, replace(query, review=None))
        for *kind, number in grouped(connection, replace(query, review=ReviewFilter.REVIEWED)):
            yield kind[0], kind[1], kind[2], -number
        return
    if needs_rows(query):
        yield from _grouped_rows(connection, query, query.since_us, query.until_us)
        return
    for span in split(query.since_us, query.until_us):
        if span.seconds:
            yield from _grouped_tallies(connection, query, span)
        else:
            yield from _grouped_rows(connection, query, span.since_us, span.until_us)


def needs_rows(query: Query) -> bool:
    """Whether results have to be looked at one by one to be counted, since no tally knows the filter."""
    limits = (query.min_confidence, query.max_confidence, query.min_score, query.max_score)
    others = (query.after, query.file_id, query.after_result_id, query.series_id, query.review)
    return bool(query.text) or any(value is not None for value in (*limits, *others))


def _grouped_tallies(
    connection: sa.Connection, query: Query, span: Span
) -> Iterator[tuple[int, int, int, int]]:
    kind = (tally.c.model_id, tally.c.label_id, tally.c.status)
    statement = (
        sa.select(*kind, total(tally.c.count)).where(*tally_terms(connection, query, span)).group_by(*kind)
    )
    yield from connection.execute(statement)


def tally_terms(connection: sa.Connection, query: Query, span: Span) -> list[sa.ColumnElement[bool]]:
    """Return what narrows the tallies down to a query's within a span of whole minutes or days."""
    terms = [tally.c.seconds == span.seconds, *_between(tally.c.start_us, span.since_us, span.until_us)]
    terms += _chosen(connection, query, tally.c.label_id, tally.c.status, tally.c.model_id)
    if query.inbox is not None:
        chosen = sa.select(inbox.c.id).where(inbox.c.path == query.inbox)
        terms.append(tally.c.inbox_id.in_(chosen))
    return terms


def _grouped_rows(
    connection: sa.Connection, query: Query, since_us: int | None, until_us: int | None
) -> Iterator[tuple[int, int, int, int]]:
    kind = (result.c.model_id, sa.func.coalesce(result.c.label_id, ZERO), result.c.status)
    statement = (
        sa.select(*kind, sa.func.count())
        .select_from(JOINED if needs_join(query) else result)
        .where(*row_terms(connection, query, since_us, until_us))
        .group_by(*kind)
    )
    yield from connection.execute(statement)


def needs_join(query: Query) -> bool:
    """Whether `row_terms` asks for more than the results alone."""
    others = (query.inbox, query.min_score, query.max_score, query.after)
    return bool(query.text) or any(value is not None for value in others)


def _select(connection: sa.Connection, query: Query) -> sa.Select[Any]:
    down = is_descending(query)
    columns = [SORT_COLUMNS[query.sort], result.c.id] if query.sort is not Sort.ID else [result.c.id]
    order = [column.desc() if down else column.asc() for column in columns]
    terms = row_terms(connection, query, query.since_us, query.until_us)
    statement = sa.select(*COLUMNS).select_from(JOINED).order_by(*order).limit(query.limit)
    if query.review is None or query.limit is None:
        return statement.where(*terms)
    # All that were reviewed are sorted for a page: by their numbers alone.
    page = sa.select(result.c.id).select_from(JOINED).where(*terms).order_by(*order).limit(query.limit)
    return statement.where(result.c.id.in_(page))


def row_terms(
    connection: sa.Connection, query: Query, since_us: int | None, until_us: int | None
) -> list[sa.ColumnElement[bool]]:
    """Return what narrows the joined results down to a query's within a range of time."""
    terms = _between(result.c.completed_us, since_us, until_us)
    terms += _chosen(connection, query, result.c.label_id, result.c.status, result.c.model_id)
    for column, least, most in (
        (result.c.confidence, query.min_confidence, query.max_confidence),
        (score_column, query.min_score, query.max_score),
    ):
        terms += [] if least is None else [column >= least]
        terms += [] if most is None else [column <= most]
    if query.text:
        terms.append(_contains(query.text))
    if query.inbox is not None:
        # Through coalesce, or SQLite makes the outer joins inner ones and starts at the inbox, not
        # at the time: every row would be visited and sorted for one page.
        terms.append(sa.func.coalesce(inbox.c.path, b"") == query.inbox)
    if query.review is not None:
        terms.append(review_term(query.review))
    if query.file_id is not None:
        terms.append(result.c.file_id == query.file_id)
    if query.series_id is not None:
        terms.append(result.c.series_id == query.series_id)
    if query.after_result_id is not None:
        terms.append(result.c.id > query.after_result_id)
    if query.after is not None:
        place = sa.tuple_(SORT_COLUMNS[query.sort], result.c.id)
        value = sa.tuple_(*(sa.literal(part) for part in query.after))
        terms.append(place < value if is_descending(query) else place > value)
    return terms


def _chosen(
    connection: sa.Connection,
    query: Query,
    label_id: sa.ColumnElement[Any],
    status: sa.ColumnElement[Any],
    model_id: sa.ColumnElement[Any],
) -> list[sa.ColumnElement[bool]]:
    """Return the terms that results and tallies share; few numbers each, so they are looked up first."""
    terms: list[sa.ColumnElement[bool]] = []
    if query.labels:
        ids = sa.select(label.c.id).where(label.c.name.in_(query.labels))
        terms.append(label_id.in_(list(connection.execute(ids).scalars())))
    if query.statuses:
        terms.append(status.in_([STATUS_CODES[word] for word in query.statuses]))
    if query.model is not None:
        ids = sa.select(model.c.id).where(is_model(query.model))
        terms.append(model_id.in_(list(connection.execute(ids).scalars())))
    return terms


def is_model(named: str) -> sa.ColumnElement[bool]:
    """Return what a model is called by: its name, or the first letters of its weights' sha256."""
    return model.c.weights_sha256.startswith(named.lower(), autoescape=True) | (model.c.name == named)


def _between(
    column: sa.ColumnElement[int], since_us: int | None, until_us: int | None
) -> list[sa.ColumnElement[bool]]:
    terms = []
    if since_us is not None:
        terms.append(column >= since_us)
    if until_us is not None:
        terms.append(column < until_us)
    return terms


def _contains(text: str) -> sa.ColumnElement[bool]:
    """Search bytes, because names need not be text; LIKE would also give % and _ a meaning."""
    wanted = os.fsencode(text).lower()
    return sa.or_(
        has_bytes(lowered(PATH), wanted),
        has_bytes(lowered(sa.func.coalesce(reason.c.text, "")), wanted),
    )


def is_descending(query: Query) -> bool:
    """Whether a query's rows come with the largest sort value first."""
    return (query.sort in (Sort.TIME, Sort.CONFIDENCE, Sort.SCORE, Sort.ID)) is not query.reverse


def result_row(row: Any) -> ResultRow:
    """Make a row of `COLUMNS`; by position, because an export makes millions."""
    file_id, result_id, inbox_path, folder_path, name, status, *middle, tags, state, moved_to = row[:_SCORED]
    path = folder_path + b"/" + name if folder_path else name
    named = None if tags is None else json.loads(tags)
    rest = (named, state == FileState.SUPERSEDED, moved_to, *row[_SCORED:])
    return ResultRow(*(file_id, result_id, inbox_path, path, STATUS_OF_CODE[status], *middle, *rest))


# Outer joins, though every row has its file and model: SQLite then keeps the order as written and
# walks the results by time, instead of starting at the smallest table and sorting at the end.
JOINED = (
    result.outerjoin(file, file.c.id == result.c.file_id)
    .outerjoin(folder, folder.c.id == file.c.folder_id)
    .outerjoin(inbox, inbox.c.id == folder.c.inbox_id)
    .outerjoin(model, model.c.id == result.c.model_id)
    .outerjoin(label, label.c.id == result.c.label_id)
    .outerjoin(reason, reason.c.id == result.c.reason_id)
)
COLUMNS = (
    result.c.file_id,
    result.c.id.label("result_id"),
    inbox.c.path.label("inbox_path"),
    folder.c.path.label("folder_path"),
    file.c.name.label("file_name"),
    result.c.status,
    label.c.name.label("label_name"),
    result.c.confidence,
    reason.c.text.label("reason_text"),
    result.c.completed_us,
    result.c.duration_us,
    model.c.name.label("model_name"),
    model.c.version.label("model_version"),
    *(model.c[name] for name in ("weights_sha256", "engine", "precision", "device")),
    file.c.size,
    result.c.sha256,
    *(result.c[name] for name in ("slice_index", "slice_count", "tags")),
    file.c.state,
    file.c.moved_to,
    score_column.label("score"),
    *(model.c[name] for name in ("positive", "threshold", "uncertain_low", "uncertain_high")),
)
_SCORED = [column.name for column in COLUMNS].index("score")
PATH = sa.cast(
    sa.case((folder.c.path == b"", file.c.name), else_=folder.c.path.concat(b"/").concat(file.c.name)),
    sa.LargeBinary,
)
SORT_COLUMNS: dict[Sort, sa.ColumnElement[Any]] = {
    Sort.TIME: result.c.completed_us,
    Sort.CONFIDENCE: sa.func.coalesce(result.c.confidence, -1.0),
    Sort.SCORE: sa.func.coalesce(score_column, -1.0),
    Sort.DOUBT: doubt_column,
    Sort.FILE: PATH,
    Sort.CLASS: by_bytes(sa.func.coalesce(label.c.name, "")),
    Sort.STATUS: result.c.status,
    Sort.ID: result.c.id,
}
