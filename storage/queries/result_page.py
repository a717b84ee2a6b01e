"""A page of results in any order, bounded in time: the page is chosen by narrow rows before it is fetched.

Walking an index answers the newest and, folder by folder, the first by name at any size. Every other order
has to look at all results: that is done piece by piece, the newest first, while the time lasts.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from storage.queries.budget import Budget
from storage.queries.path_order import first_by_path
from storage.queries.results import (
    COLUMNS,
    JOINED,
    SORT_COLUMNS,
    ResultRow,
    is_descending,
    result_row,
    row_terms,
    rows,
)
from storage.queries.row_pieces import RowPieces
from storage.queries.score_sql import doubt_among
from storage.query import Query, Sort
from storage.schema import file, folder, label, model, result

if TYPE_CHECKING:
    from storage.queries.text_match import TextMatch

# So many matches are all looked at and sorted; where more match, walking in order meets them soon.
FEW = 30_000


@dataclass(frozen=True, slots=True)
class ResultPage:
    """Some results in the order that was asked for."""

    rows: list[ResultRow]
    more: bool  # others follow
    looked_at: int | None  # how many results, the newest, were looked through; None: all


def result_page(
    connection: sa.Connection, query: Query, match: TextMatch | None, matching: int, budget: Budget
) -> ResultPage:
    """Return the page of a query whose text is `match` and that at least `matching` results answer to."""
    most = query.limit or 1
    query = replace(query, text="", limit=most + 1)
    looked_at, cut = None, False
    if query.sort in (Sort.TIME, Sort.ID) and matching > FEW:
        ids = _walk(connection, query, match)
    elif query.sort is Sort.FILE and matching > FEW:
        ids, cut = first_by_path(connection, query, match, budget)
    else:
        ids, looked_at = _sorted(connection, query, match, budget)
    return ResultPage(rows_of(connection, ids[:most]), len(ids) > most or cut, looked_at)


def rows_of(connection: sa.Connection, result_ids: Sequence[int]) -> list[ResultRow]:
    """Return some results by their ids, in that order; those that are not there are left out."""
    statement = sa.select(*COLUMNS).select_from(JOINED).where(result.c.id.in_(result_ids))
    found = {row.result_id: result_row(row) for row in connection.execute(statement)}
    return [found[one] for one in result_ids if one in found]


def _walk(connection: sa.Connection, query: Query, match: TextMatch | None) -> list[int]:
    """Return the first results by time or id along the index."""
    if match is None:
        return [row.result_id for row in rows(connection, query)]
    terms = [*row_terms(connection, query, query.since_us, query.until_us), match.term]
    order = [result.c.id] if query.sort is Sort.ID else [result.c.completed_us, result.c.id]
    statement = sa.select(result.c.id).select_from(JOINED).where(*terms).limit(query.limit)
    down = is_descending(query)
    return list(
        connection.execute(statement.order_by(*(one.desc() if down else one for one in order))).scalars()
    )


def _sorted(
    connection: sa.Connection, query: Query, match: TextMatch | None, budget: Budget
) -> tuple[list[int], int | None]:
    """Return the first results by a column that no index has: the first of each piece, put together."""
    column, behind = _order(connection, query)
    down = is_descending(query)
    source = _source(query, match)
    through = RowPieces(connection, replace(query, after=None), match, budget)
    first: list[tuple[Any, int]] = []
    for terms in through:
        statement = (
            sa.select(column, result.c.id)
            .select_from(source)
            .where(*terms, *behind)
            .order_by(*(one.desc() if down else one for one in (column, result.c.id)))
            .limit(query.limit)
        )
        found = [(value, number) for value, number in connection.execute(statement)]
        first = list(heapq.merge(first, found, reverse=down))[: query.limit]
    return [number for _, number in first], None if through.is_whole else through.looked_at


def ordered_ids(connection: sa.Connection, query: Query, match: TextMatch | None) -> Iterator[int]:
    """Yield the ids of all results of a query in its order; the text is `match`, the page not looked at."""
    query = replace(query, text="", after=None)
    column, _ = _order(connection, query)
    terms = row_terms(connection, query, query.since_us, query.until_us)
    down = is_descending(query)
    statement = (
        sa.select(result.c.id)
        .select_from(_source(query, match))
        .where(*terms, *([] if match is None else [match.term]))
        .order_by(*(one.desc() if down else one for one in (column, result.c.id)))
        .execution_options(yield_per=1_000)
    )
    with connection.execute(statement) as found:
        yield from found.scalars()


def _source(query: Query, match: TextMatch | None) -> sa.FromClause:
    """Return the results, joined with no more than the order and the filters ask for."""
    if query.inbox is not None:
        return JOINED
    source: sa.FromClause = result
    if query.sort is Sort.FILE or not (match is None or match.is_list):
        source = source.outerjoin(file, file.c.id == result.c.file_id)
    if query.sort is Sort.FILE:
        source = source.outerjoin(folder, folder.c.id == file.c.folder_id)
    return source


def _order(
    connection: sa.Connection, query: Query
) -> tuple[sa.ColumnElement[Any], list[sa.ColumnElement[bool]]]:
    """Return what is sorted by, and the term of the rows behind the query's key."""
    key = query.after
    column: sa.ColumnElement[Any] = SORT_COLUMNS[query.sort]
    if query.sort is Sort.TIME:
        column = result.c.completed_us + sa.literal_column("0")  # no index of it: pieces are ranges of ids
    elif query.sort is Sort.DOUBT:
        limits = sa.select(model.c.id, model.c.threshold).where(model.c.threshold.is_not(None))
        column = doubt_among({row.id: row.threshold for row in connection.execute(limits)})
    elif query.sort is Sort.CLASS:
        column, places = _class_places(connection)
        key = None if key is None else (places(str(key[0])), key[1])
    if key is None:
        return column, []
    place, value = sa.tuple_(column, result.c.id), sa.tuple_(*(sa.literal(part) for part in key))
    return column, [place < value if is_descending(query) else place > value]


def _class_places(connection: sa.Connection) -> tuple[sa.ColumnElement[Any], Callable[[str], int]]:
    """Return a class's place among all by name, even numbers from 2 on, and that of any name; 0: none."""
    known = sorted(connection.execute(sa.select(label.c.name, label.c.id)).all())
    names = [row.name for row in known]
    places = {row.id: 2 * place for place, row in enumerate(known, 1)}
    column = sa.case(places, value=result.c.label_id, else_=sa.literal(0)) if places else sa.literal(0)

    def place_of(name: str) -> int:
        below = bisect.bisect_left(names, name)
        is_known = below < len(names) and names[below] == name
        return 2 * below + (2 if is_known else 1) if name else 0

    return column, place_of
