"""Find the images before and after one in a filtered and sorted list, by key in both directions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from storage.queries.results import ResultRow, rows
from storage.query import Query

if TYPE_CHECKING:
    import sqlalchemy as sa

# Rows of the same image that may stand beside each other in the list: one for each model.
_MOST_OF_ONE = 8


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The file versions before and after one, None at an end of the list."""

    previous: int | None
    next: int | None


def neighbours(connection: sa.Connection, query: Query, file_id: int) -> Neighbours:
    """Return what stands around an image in the list that `query` asks for.

    An image that is not in it (any more) stands where its latest result would.
    """
    place = replace(query, file_id=file_id, after=None, limit=1)
    row = _first(connection, place) or _first(connection, Query(file_id=file_id, limit=1))
    if row is None:
        return Neighbours(None, None)
    onwards = replace(query, after=row.key(query.sort), limit=_MOST_OF_ONE)
    back = replace(onwards, reverse=not query.reverse)
    return Neighbours(_other(connection, back, file_id), _other(connection, onwards, file_id))


def _other(connection: sa.Connection, query: Query, file_id: int) -> int | None:
    return next((row.id for row in list(rows(connection, query)) if row.id != file_id), None)


def _first(connection: sa.Connection, query: Query) -> ResultRow | None:
    return next(iter(list(rows(connection, query))), None)
