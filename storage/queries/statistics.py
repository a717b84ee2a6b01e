"""Figures about many results at once: over time, by score, by model, by reason.

From the tallies where the filter allows, as in `storage.queries.results`, whose queries these are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any

import sqlalchemy as sa

from storage.counters import Span
from storage.database import reading
from storage.portable_sql import by_bytes, total, whole_part
from storage.queries.results import DAY_SECONDS, JOINED, row_terms, tally_terms
from storage.queries.score_sql import score_column
from storage.query import Query
from storage.records import Status
from storage.schema import STATUS_OF_CODE, label, model, reason, tally


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """How many results of this class and status were completed in the step that begins at `start_us`."""

    start_us: int
    label: str | None
    status: Status
    count: int


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model that judged some of the results, and on what."""

    name: str
    version: str
    weights_sha256: str
    engine: str
    precision: str
    device: str
    positive: str | None  # what scores are compared with, as in `storage.queries.results.ResultRow`
    threshold: float | None
    uncertain_low: float | None
    uncertain_high: float | None
    count: int


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """How many images could not be judged for this reason."""

    reason: str
    count: int


def timeline(connection: sa.Connection, query: Query, step_seconds: int) -> list[TimelineRow]:
    """Return the counts per step, oldest first; steps are whole minutes, their starts multiples of them.

    Only the filters that a summary needs no rows for apply (time, class, status, inbox, model); the
    range is widened to whole steps.
    """
    step_us = max(60, step_seconds - step_seconds % 60) * 1_000_000
    since_us = None if query.since_us is None else query.since_us - query.since_us % step_us
    until_us = None if query.until_us is None else query.until_us + -query.until_us % step_us
    seconds = 86_400 if step_us % 86_400_000_000 == 0 else 60
    start = (tally.c.start_us - tally.c.start_us % step_us).label("begin_us")
    with reading(connection):
        statement = (
            sa.select(start, label.c.name, tally.c.status, total(tally.c.count))
            .select_from(tally.outerjoin(label, label.c.id == tally.c.label_id))
            .where(*tally_terms(connection, query, Span(seconds, since_us, until_us)), tally.c.count > 0)
            .group_by("begin_us", label.c.name, tally.c.status)
            .order_by("begin_us", tally.c.status, by_bytes(label.c.name).nulls_first())
        )
        found = connection.execute(statement).all()
    return [TimelineRow(begin, name, STATUS_OF_CODE[status], number) for begin, name, status, number in found]


def score_histogram(connection: sa.Connection, query: Query, bins: int = 20) -> dict[str, list[int]]:
    """Return per class that was given how many results have a score in each of `bins` equal parts of 0..1."""
    last = sa.literal(bins - 1)
    place = sa.case((score_column >= sa.literal(1.0), last), else_=whole_part(score_column * bins))
    with reading(connection):
        statement = (
            sa.select(label.c.name, place.label("bin"), sa.func.count())
            .select_from(JOINED)
            .where(*row_terms(connection, query, query.since_us, query.until_us))
            .where(score_column.is_not(None), label.c.name.is_not(None))
            .group_by(label.c.name, "bin")
        )
        found = connection.execute(statement).all()
    shares: dict[str, list[int]] = {}
    for name, number, size in found:
        shares.setdefault(name, [0] * bins)[number] = size
    return shares


def models(connection: sa.Connection, query: Query) -> list[ModelRow]:
    """Return the models behind the results of a query's time range, most used first.

    As with `timeline`, only time, class, status, inbox and model narrow it down, time to whole minutes.
    """
    span = Span(60, query.since_us, query.until_us)
    if query.since_us is None and query.until_us is None:
        span = Span(DAY_SECONDS, None, None)
    number = total(tally.c.count)
    with reading(connection):
        statement = (
            sa.select(*(model.c[field.name] for field in fields(ModelRow)[:-1]), number)
            .select_from(tally.join(model, model.c.id == tally.c.model_id))
            .where(*tally_terms(connection, query, span), tally.c.count > 0)
            .group_by(model.c.id)
            .order_by(number.desc(), model.c.id)
        )
        found: list[Any] = list(connection.execute(statement))
    return [ModelRow(*row) for row in found]


def model_classes(connection: sa.Connection) -> dict[str, tuple[str, ...]]:
    """Return the classes of every model by its weights' sha256, in the order of the logits."""
    with reading(connection):
        found = connection.execute(sa.select(model.c.weights_sha256, model.c.classes)).all()
    return {weights: tuple(json.loads(names)) for weights, names in found}


def reasons(connection: sa.Connection, query: Query, limit: int) -> list[ReasonRow]:
    """Return why images could not be judged, the most frequent reason first, at most `limit` of them."""
    query = replace(query, statuses=(Status.ERROR,))
    number = sa.func.count()
    with reading(connection):
        statement = (
            sa.select(sa.func.coalesce(reason.c.text, ""), number)
            .select_from(JOINED)
            .where(*row_terms(connection, query, query.since_us, query.until_us))
            .group_by(reason.c.id)
            .order_by(number.desc(), reason.c.id.nulls_first())
            .limit(limit)
        )
        return [ReasonRow(*row) for row in connection.execute(statement)]
