"""Facets of a query: how many results each further choice would leave, under all its other filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from storage.queries.result_counts import Chosen, KindCounts
from storage.queries.results import JOINED, row_terms
from storage.queries.row_pieces import unindexed_time
from storage.queries.series_rows import series_rows
from storage.query import Grouping, Query, ReviewFilter
from storage.schema import STATUS_OF_CODE, inbox, label, model, result, review

if TYPE_CHECKING:
    from storage.queries.budget import Budget
    from storage.queries.text_match import TextMatch

_MOST_SERIES = 8
# Series of more results than this take longer to be counted than a page may.
_MOST_GROUPED = 1_500_000


@dataclass(frozen=True, slots=True)
class Facet:
    """One choice."""

    word: str | bytes | int  # as a query takes it
    name: str  # as people know it
    count: int


@dataclass(frozen=True, slots=True)
class Facets:
    """The choices by what they are about; of series and reviews None where counting takes too long."""

    labels: list[Facet]
    statuses: list[Facet]
    models: list[Facet]
    inboxes: list[Facet]
    series: list[Facet] | None  # those with most results
    reviews: list[Facet] | None  # [] before the first review
    exact: bool  # False: all counts are least numbers


def facets(
    connection: sa.Connection, query: Query, match: TextMatch | None, counts: KindCounts, chosen: Chosen,
    budget: Budget,
) -> Facets:  # fmt: skip
    """Return the facets of a query whose text is `match` and whose kinds are counted."""
    labels = _pairs(connection, sa.select(label.c.id, label.c.name))
    inboxes = _pairs(connection, sa.select(inbox.c.id, inbox.c.path))
    models = {row.id: row for row in connection.execute(sa.select(model))}
    by_weights: Counter[str] = Counter()
    for model_id, number in _sums(counts, replace(chosen, models=None), 1).items():
        by_weights[models[model_id].weights_sha256] += number
    named = {
        row.weights_sha256: f"{row.name} {row.version} {row.weights_sha256[:8]}" for row in models.values()
    }
    return Facets(
        labels=_listed(
            {labels[one]: n for one, n in _sums(counts, replace(chosen, labels=None), 2).items() if one}
        ),
        statuses=_listed(
            {
                STATUS_OF_CODE[one].value: n
                for one, n in _sums(counts, replace(chosen, statuses=None), 3).items()
            }
        ),
        models=[Facet(weights[:16], named[weights], number) for weights, number in by_weights.most_common()],
        inboxes=_listed(
            {inboxes[one]: n for one, n in _sums(counts, replace(chosen, inboxes=None), 0).items()}
        ),
        series=_series(connection, query, match, counts, budget),
        reviews=_reviews(connection, query, match, counts, chosen),
        exact=counts.exact,
    )


def _pairs(connection: sa.Connection, statement: sa.Select[Any]) -> dict[Any, Any]:
    return {key: value for key, value in connection.execute(statement)}  # noqa: C416 - rows are no tuples


def _sums(counts: KindCounts, chosen: Chosen, place: int) -> Counter[int]:
    """Return the counts by one of the four parts of a kind, of the kinds that the others let through."""
    sums: Counter[int] = Counter()
    for kind, number in counts.by_kind.items():
        if chosen.takes(kind):
            sums[kind[place]] += number
    return +sums


def _listed(sums: Mapping[Any, int]) -> list[Facet]:
    found = [Facet(word, word if isinstance(word, str) else "", number) for word, number in sums.items()]
    return sorted(found, key=lambda one: (-one.count, one.word))


def _series(
    connection: sa.Connection, query: Query, match: TextMatch | None, counts: KindCounts, budget: Budget
) -> list[Facet] | None:
    """Return the series with most results; a series that is chosen stands among them."""
    is_list = match is not None and match.is_list
    if not is_list and (not counts.exact or budget.spent or counts.by_kind.total() > _MOST_GROUPED):
        return None
    number = sa.func.count()
    terms = _terms(connection, replace(query, series_id=None), match)
    statement = (
        sa.select(result.c.series_id, number)
        .select_from(_source(query, match))
        .where(result.c.series_id.is_not(None), *terms)
        .group_by(result.c.series_id)
        .order_by(number.desc(), result.c.series_id)
    )
    found: dict[int, int] = _pairs(connection, statement.limit(_MOST_SERIES))
    if query.series_id is not None and query.series_id not in found:
        only = sa.select(number).select_from(_source(query, match)).where(*terms)
        one = connection.execute(only.where(result.c.series_id == query.series_id)).scalar_one()
        found = {query.series_id: one, **found}
    return [Facet(one, _series_name(connection, one), number) for one, number in found.items()]


def _series_name(connection: sa.Connection, series_id: int) -> str:
    wanted = Query(series_id=series_id, limit=1)
    return next((row.name for row in series_rows(connection, Grouping.SERIES, wanted)), str(series_id))


def _reviews(
    connection: sa.Connection, query: Query, match: TextMatch | None, counts: KindCounts, chosen: Chosen
) -> list[Facet] | None:
    """Return how many results people said what of; those that nobody reviewed are the rest."""
    if connection.execute(sa.select(review.c.id).limit(1)).first() is None:
        return []
    if match is not None and not match.is_list:
        return None
    found: dict[ReviewFilter, int] = {}
    for one in ReviewFilter:
        if one is not ReviewFilter.NONE:
            terms = _terms(connection, replace(query, review=one), match)
            statement = sa.select(sa.func.count()).select_from(_source(query, match)).where(*terms)
            found[one] = connection.execute(statement).scalar_one()
    if query.review is None and counts.exact:
        found[ReviewFilter.NONE] = counts.matching(chosen) - found[ReviewFilter.REVIEWED]
    return [Facet(one.value, one.value, found[one]) for one in ReviewFilter if one in found]


def _terms(connection: sa.Connection, query: Query, match: TextMatch | None) -> list[sa.ColumnElement[bool]]:
    query = replace(query, text="", after=None)
    terms = [*row_terms(connection, query, None, None), *unindexed_time(query)]
    return terms if match is None else [*terms, match.term]


def _source(query: Query, match: TextMatch | None) -> sa.FromClause:
    """Return the results, joined only where the filters ask for it: SQLite keeps some joins it needs not."""
    is_narrow = query.inbox is None and (match is None or match.is_list)
    return result if is_narrow else JOINED
