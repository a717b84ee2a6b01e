"""Look through results piece by piece, so that a person's question has an answer in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from storage.queries.budget import Budget, pieces
from storage.queries.results import count, row_terms
from storage.query import Query, ReviewFilter
from storage.schema import result

if TYPE_CHECKING:
    from storage.queries.text_match import TextMatch

# So many results in a range of time are found quicker by their index than by going through all.
_FEW = 100_000


class RowPieces:
    """The terms of a query, and the pieces in which the results are looked through for them.

    The query's text is `match`, not its `text`. Iterate once; `is_whole` tells afterwards whether the time
    sufficed, `looked_at` how many results, the newest, were looked through.
    """

    def __init__(
        self, connection: sa.Connection, query: Query, match: TextMatch | None, budget: Budget
    ) -> None:
        self._budget = budget
        self._last = connection.execute(sa.select(sa.func.max(result.c.id))).scalar() or 0
        self._at_once = match is not None and match.is_list
        if not self._at_once and (query.since_us is not None or query.until_us is not None):
            between = Query(since_us=query.since_us, until_us=query.until_us)
            self._at_once = count(connection, between) <= _FEW
        query = replace(query, text="")
        if self._at_once and match is None:
            self.terms = row_terms(connection, query, query.since_us, query.until_us)
        else:
            self.terms = [*row_terms(connection, query, None, None), *unindexed_time(query)]
        if query.review not in {None, ReviewFilter.NONE}:
            self._at_once = True  # what people reviewed is few, and found by a list of files too
        if match is not None:
            self.terms.append(match.term)
        self.is_whole = False
        self.looked_at = 0

    def __iter__(self) -> Iterator[list[sa.ColumnElement[bool]]]:
        """Yield what narrows the results down to the next piece and the query."""
        if self._at_once:
            self.is_whole, self.looked_at = True, self._last
            yield self.terms
            return
        for lower, upper in pieces(self._last, self._budget):
            yield [*self.terms, result.c.id > lower, result.c.id <= upper]
            self.is_whole, self.looked_at = lower == 0, self._last - lower


def unindexed_time(query: Query) -> list[sa.ColumnElement[bool]]:
    """Return the range of time in terms that no index serves: pieces are ranges of ids."""
    time = result.c.completed_us + sa.literal_column("0")
    terms = [] if query.since_us is None else [time >= query.since_us]
    return terms if query.until_us is None else [*terms, time < query.until_us]
