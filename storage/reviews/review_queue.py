"""Queue of the images that a person should look at: uncertain, near the threshold, drawn at random."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import sqlalchemy as sa

from storage.database import reading
from storage.queries.results import JOINED, ResultRow, needs_join, row_terms, rows
from storage.queries.review_sql import ANSWERED, IS_SKIP, has_review, truths
from storage.queries.score_sql import doubt_column
from storage.query import Query, Sort
from storage.records import Status
from storage.reviews.sample import skipped as skipped_files
from storage.reviews.sample import unreviewed
from storage.schema import IS_CURRENT, STATUS_CODES, ReviewOrigin, model, result

# So many of the latest results are searched for those near the threshold: then the time that takes does
# not grow with the database.
NEAR_AMONG = 100_000
# The order in which people are asked.
ORIGINS = (ReviewOrigin.UNCERTAIN, ReviewOrigin.NEAR, ReviewOrigin.RANDOM)
# Literals: SQLite takes a partial index only for a term it can read while planning.
_UNCERTAIN: sa.ColumnElement[int] = sa.literal_column(str(STATUS_CODES[Status.UNCERTAIN]))
_OK: sa.ColumnElement[int] = sa.literal_column(str(STATUS_CODES[Status.OK]))


@dataclass(frozen=True, slots=True)
class ReviewCandidate:
    """A result that a person should look at, and why."""

    row: ResultRow
    origin: ReviewOrigin


@dataclass(frozen=True, slots=True)
class ReviewWaiting:
    """How many images wait for a person, and how many had one."""

    uncertain: int  # uncertain results that nobody answered, of files that were not overwritten
    reviewed: int  # images
    disputed: int  # images about which two people contradict each other


def candidates(
    connection: sa.Connection,
    query: Query,
    *,
    origins: Sequence[ReviewOrigin] = ORIGINS,
    limit: int,
    without: Collection[int] = (),
) -> list[ReviewCandidate]:
    """Return at most `limit` results that nobody has reviewed, one per file, most urgent first.

    Uncertain ones come first, the nearest to the threshold before the others, then the rest in the same
    order, then a random sample, as far as named by `origins`; what people skipped comes last. Files in
    `without` are left out. Of the random sample a query narrows the model alone: any other choice would
    make it a sample of something else. Without one it is drawn from what the latest model judged.
    """
    taken, found = set(without), list[ReviewCandidate]()
    with reading(connection):
        for skipped in (False, True):
            for origin in (one for one in ORIGINS if one in origins):
                wanted = limit - len(found)
                if wanted > 0:
                    new = _FINDERS[origin](connection, query, taken, skipped, wanted)
                    found += [ReviewCandidate(row, origin) for row in new]
                    taken |= {row.id for row in new}
    return found


def waiting(connection: sa.Connection, query: Query) -> ReviewWaiting:
    """Return how many of the images that a query lets through wait, whatever its limit and `review`."""
    query = replace(query, review=None, after=None)
    with reading(connection):
        terms = row_terms(connection, query, query.since_us, query.until_us)
        open_terms = (result.c.status == _UNCERTAIN, IS_CURRENT, ~has_review(result.c.file_id, ANSWERED))
        uncertain = sa.select(sa.func.count()).select_from(JOINED).where(*terms, *open_terms)
        truth = truths.subquery("truth")
        # Without a filter there is no need to look at the results.
        source = JOINED if needs_join(query) else result
        of_file = sa.exists().select_from(source).where(result.c.file_id == truth.c.file_id, *terms)
        let_through = of_file.correlate(truth)
        answered = sa.select(sa.func.count(), sa.func.count().filter(truth.c.said.is_(None))).where(
            *([let_through] if terms else [])
        )
        reviewed, disputed = connection.execute(answered.select_from(truth)).one()
        return ReviewWaiting(connection.execute(uncertain).scalar_one(), reviewed, disputed)


def _open(skipped: bool) -> tuple[sa.ColumnElement[bool], ...]:
    """Return what narrows results down to those nobody has looked at, or has only skipped."""
    if skipped:
        return (
            IS_CURRENT,
            has_review(result.c.file_id, IS_SKIP),
            ~has_review(result.c.file_id, ANSWERED),
        )
    return IS_CURRENT, ~has_review(result.c.file_id)


def _uncertain(
    connection: sa.Connection, query: Query, taken: Collection[int], skipped: bool, wanted: int
) -> list[ResultRow]:
    terms = (result.c.status == _UNCERTAIN, *_open(skipped))
    return _by_doubt(connection, query, taken, wanted, terms)


def _near(
    connection: sa.Connection, query: Query, taken: Collection[int], skipped: bool, wanted: int
) -> list[ResultRow]:
    since = sa.select(sa.func.max(result.c.id) - NEAR_AMONG).scalar_subquery()
    terms = (result.c.status == _OK, result.c.id > since, *_open(skipped))
    return _by_doubt(connection, query, taken, wanted, terms)


def _by_doubt(
    connection: sa.Connection,
    query: Query,
    taken: Collection[int],
    wanted: int,
    terms: Sequence[sa.ColumnElement[bool]],
) -> list[ResultRow]:
    """Return the results nearest to the threshold, the oldest first of several as near, one per file."""
    query = replace(query, after=None)
    statement = (
        sa.select(result.c.file_id, result.c.id)
        .select_from(JOINED)
        .where(*row_terms(connection, query, query.since_us, query.until_us), *terms)
        .order_by(doubt_column, result.c.id)
        # Of files on lease or judged by several models more rows than wanted may be passed over.
        .limit(wanted + len(taken) + _SPARE)
    )
    chosen: dict[int, int] = {}
    for file_id, result_id in connection.execute(statement):
        if file_id not in taken and len(chosen) < wanted:
            chosen.setdefault(file_id, result_id)
    return list(_rows(connection, chosen))


def _random(
    connection: sa.Connection, query: Query, taken: Collection[int], skipped: bool, wanted: int
) -> list[ResultRow]:
    weights = _weights(connection, query)
    if weights is None:
        return []
    drawn = skipped_files(connection, weights, taken) if skipped else unreviewed(connection, weights, taken)
    return [
        row
        for number in islice(drawn, wanted)
        for row in rows(connection, Query(file_id=number, model=weights, sort=Sort.ID, limit=1))
    ]


def _weights(connection: sa.Connection, query: Query) -> str | None:
    """Return the weights of the latest result, of those models that the query names."""
    statement = (
        sa.select(model.c.weights_sha256)
        .select_from(result.join(model))
        .where(*row_terms(connection, Query(model=query.model), None, None))
        .order_by(result.c.id.desc())
        .limit(1)
    )
    found = connection.execute(statement).scalar()
    return None if found is None else str(found)


def _rows(connection: sa.Connection, chosen: dict[int, int]) -> Iterator[ResultRow]:
    for file_id, result_id in chosen.items():
        query = Query(file_id=file_id, sort=Sort.ID)
        yield from (row for row in rows(connection, query) if row.result_id == result_id)


_SPARE = 16
_FINDERS = {
    ReviewOrigin.UNCERTAIN: _uncertain,
    ReviewOrigin.NEAR: _near,
    ReviewOrigin.RANDOM: _random,
}
