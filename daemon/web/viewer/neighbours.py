"""Find the image before or after one in a filtered and sorted list, by key."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from storage.queries.results import ResultRow, rows
from storage.query import Query

if TYPE_CHECKING:
    import sqlalchemy as sa

# Rows of the same image that may stand beside each other in the list: one for each model.
_MOST_OF_ONE = 8


def neighbour(connection: sa.Connection, query: Query, file_id: int, *, back: bool = False) -> int | None:
    """Return the image after one (before it, with `back`) in the list of `query`, None at its end.

    An image that is not in the list (any more) stands where its latest result would.
    """
    place = replace(query, file_id=file_id, after=None, limit=1)
    row = _first(connection, place) or _first(connection, Query(file_id=file_id, limit=1))
    if row is None:
        return None
    reverse = query.reverse is not back
    onwards = replace(query, after=row.key(query.sort), limit=_MOST_OF_ONE, reverse=reverse)
    return next((row.id for row in list(rows(connection, onwards)) if row.id != file_id), None)


def _first(connection: sa.Connection, query: Query) -> ResultRow | None:
    return next(iter(list(rows(connection, query))), None)
