"""Count results by inbox, model, class and status at once, bounded in time: what facets are made of.

From the tallies where those know the filter, exactly. Else row by row until `MOST_COUNTED` of them were
met or the time is up: such a count is a least number.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from storage.counters import split
from storage.portable_sql import ZERO, total
from storage.queries.budget import Budget
from storage.queries.results import JOINED, is_model, needs_rows, row_terms
from storage.queries.row_pieces import RowPieces
from storage.query import Query
from storage.schema import STATUS_CODES, folder, inbox, label, model, result, tally

if TYPE_CHECKING:
    from storage.queries.text_match import TextMatch

# Rows that are counted one by one; these take some hundredths of a second.
MOST_COUNTED = 20_000


class ResultKind(NamedTuple):
    """What results are counted by; numbers of rows in their tables."""

    inbox_id: int
    model_id: int
    label_id: int  # 0: none
    status: int  # STATUS_CODES


@dataclass(frozen=True, slots=True)
class KindCounts:
    """How many results there are of each kind."""

    by_kind: Counter[ResultKind]
    exact: bool  # False: there are at least so many

    def matching(self, chosen: Chosen) -> int:
        """Return how many are of the kinds that were chosen."""
        return sum(number for kind, number in self.by_kind.items() if chosen.takes(kind))


@dataclass(frozen=True, slots=True)
class Chosen:
    """The kinds that a query lets through; None: all."""

    inboxes: frozenset[int] | None = None
    models: frozenset[int] | None = None
    labels: frozenset[int] | None = None
    statuses: frozenset[int] | None = None

    def takes(self, kind: ResultKind) -> bool:
        """Whether a kind is let through."""
        allowed = (self.inboxes, self.models, self.labels, self.statuses)
        return all(some is None or one in some for one, some in zip(kind, allowed, strict=True))


def chosen_kinds(connection: sa.Connection, query: Query) -> Chosen:
    """Return which kinds a query lets through."""
    return Chosen(
        None if query.inbox is None else _ids(connection, inbox.c.id, inbox.c.path == query.inbox),
        None if query.model is None else _ids(connection, model.c.id, is_model(query.model)),
        _ids(connection, label.c.id, label.c.name.in_(query.labels)) if query.labels else None,
        frozenset(STATUS_CODES[one] for one in query.statuses) if query.statuses else None,
    )


def without_kinds(query: Query) -> Query:
    """Return a query without the filters that a kind tells."""
    return replace(query, labels=(), statuses=(), model=None, inbox=None)


def count_kinds(
    connection: sa.Connection, query: Query, match: TextMatch | None, budget: Budget
) -> KindCounts:
    """Return the counts of a query's time and row filters, whatever kinds it chooses; `match` is its text."""
    wanted = replace(without_kinds(query), text="", after=None)
    if match is None and not needs_rows(wanted):
        return KindCounts(_from_tallies(connection, wanted), exact=True)
    return count_rows(connection, wanted, match, budget)


def count_rows(
    connection: sa.Connection, query: Query, match: TextMatch | None, budget: Budget
) -> KindCounts:
    """Return the counts of a query, of whose rows each is looked at."""
    counted: Counter[ResultKind] = Counter()
    left = MOST_COUNTED
    through = RowPieces(connection, query, match, budget)
    for terms in through:
        found = _kinds(connection, terms, left + 1)
        counted.update(found)
        left -= len(found)
        if left < 0:
            return KindCounts(counted, exact=False)
    return KindCounts(counted, exact=through.is_whole)


def _from_tallies(connection: sa.Connection, query: Query) -> Counter[ResultKind]:
    counted: Counter[ResultKind] = Counter()
    columns = (tally.c.inbox_id, tally.c.model_id, tally.c.label_id, tally.c.status)
    for span in split(query.since_us, query.until_us):
        if not span.seconds:
            counted.update(_kinds(connection, row_terms(connection, query, span.since_us, span.until_us)))
            continue
        terms = [tally.c.seconds == span.seconds]
        terms += [] if span.since_us is None else [tally.c.start_us >= span.since_us]
        terms += [] if span.until_us is None else [tally.c.start_us < span.until_us]
        statement = sa.select(*columns, total(tally.c.count)).where(*terms).group_by(*columns)
        for *kind, number in connection.execute(statement):
            counted[ResultKind(*kind)] += number
    return +counted


def _kinds(
    connection: sa.Connection, terms: list[sa.ColumnElement[bool]], most: int | None = None
) -> list[ResultKind]:
    label_id = sa.func.coalesce(result.c.label_id, ZERO)
    columns = (folder.c.inbox_id, result.c.model_id, label_id, result.c.status)
    statement = sa.select(*columns).select_from(JOINED).where(*terms).limit(most)
    return [ResultKind(*row) for row in connection.execute(statement)]


def _ids(
    connection: sa.Connection, column: sa.ColumnElement[int], term: sa.ColumnElement[bool]
) -> frozenset[int]:
    return frozenset(connection.execute(sa.select(column).where(term)).scalars())
