"""Search of the results page: a page, how many there are, and the facets, all within a time that is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.database import reading
from storage.queries.budget import Budget
from storage.queries.facets import Facets, facets
from storage.queries.result_counts import chosen_kinds, count_kinds
from storage.queries.result_page import ResultPage, result_page
from storage.queries.text_match import TextMatch, find_text
from storage.query import Query

if TYPE_CHECKING:
    import sqlalchemy as sa

# Of half a second that a person waits without noticing, what is not the page's own making and way.
SECONDS = 0.35
# The text comes first and leaves something to the rest.
_TEXT_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found."""

    page: ResultPage
    total: int
    exact: bool  # False: there are at least `total`
    facets: Facets
    searched: int | None  # how many files, the newest, were searched for the text; None: all


def search(connection: sa.Connection, query: Query, seconds: float = SECONDS) -> Search:
    """Return the page of a query, its count and its facets, in about `seconds`.

    What the time does not suffice for is said in the answer: the page may be the first among the newest
    results only, a count a least number, a text be searched for in the newest files only.
    """
    budget = Budget(seconds)
    with reading(connection):
        match = _match(connection, query, seconds)
        counts = count_kinds(connection, query, match, budget)
        chosen = chosen_kinds(connection, query)
        total = counts.matching(chosen)
        page = result_page(connection, query, match, total, budget)
        found = facets(connection, query, match, counts, chosen, budget)
    searched = None if match is None else match.searched
    exact = counts.exact and searched is None
    # Of a rare kind among many matches the count may have met none, where the page has some.
    total = total if exact else max(total, len(page.rows))
    return Search(page, total, exact, found, searched)


def _match(connection: sa.Connection, query: Query, seconds: float) -> TextMatch | None:
    if not query.text:
        return None
    return find_text(connection, query.text, Budget(seconds * _TEXT_SECONDS / SECONDS))
