"""The first results by path, folder by folder along the index of names: quick at any size.

All paths of a folder lie between its own path with a slash and that with the next character behind it, so
a folder need not be opened while enough paths before its range are known. Superseded versions stand in no
index; they are few and looked for by themselves.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from storage.queries.budget import Budget, pieces
from storage.queries.results import PATH, is_descending, row_terms
from storage.query import Query
from storage.schema import IS_CURRENT, file, folder, inbox, label, model, reason, result

if TYPE_CHECKING:
    from storage.queries.text_match import TextMatch

_FOLDERS = 2_000  # named at a time
# From the files, whose index has the order, to their results; else as `JOINED`.
_FROM_FILES = (
    file.join(result, result.c.file_id == file.c.id)
    .outerjoin(folder, folder.c.id == file.c.folder_id)
    .outerjoin(inbox, inbox.c.id == folder.c.inbox_id)
    .outerjoin(model, model.c.id == result.c.model_id)
    .outerjoin(label, label.c.id == result.c.label_id)
    .outerjoin(reason, reason.c.id == result.c.reason_id)
)


class _Found(NamedTuple):
    path: bytes
    result_id: int


class _Folder(NamedTuple):
    id: int
    path: bytes  # below its inbox, b"" for itself
    edge: bytes  # behind which, in the order that is asked for, all its paths are


def first_by_path(
    connection: sa.Connection, query: Query, match: TextMatch | None, budget: Budget
) -> tuple[list[int], bool]:
    """Return the first results by path, and whether there may be more than were found in time.

    At least one is returned if there is any. Of superseded versions the newest are among them, as far as the
    budget lasts.
    """
    assert query.limit is not None
    down = is_descending(query)
    walk = _Walk(connection, query, match)
    first = walk.superseded(budget)
    for one in walk.folders():
        if len(first) == query.limit and (first[-1].path > one.edge if down else first[-1].path < one.edge):
            break
        if first and budget.spent:
            # What lies before this folder's edge is in order; behind it something may still come in between.
            sure = [found for found in first if (found.path > one.edge if down else found.path < one.edge)]
            if sure:
                return [found.result_id for found in sure], True
        first = list(heapq.merge(first, walk.within(one), reverse=down))[: query.limit]
    return [found.result_id for found in first], False


class _Walk:
    """What is read on the way."""

    def __init__(self, connection: sa.Connection, query: Query, match: TextMatch | None) -> None:
        self._connection = connection
        self._query = query
        self._down = is_descending(query)
        self._after = _key(query)
        terms = row_terms(connection, replace(query, after=None), query.since_us, query.until_us)
        self._terms = terms if match is None else [*terms, match.term]

    def superseded(self, budget: Budget) -> list[_Found]:
        """Return the first of the versions that are none any more, the newest while the budget lasts."""
        assert self._query.limit is not None
        last = self._connection.execute(sa.select(sa.func.max(file.c.id))).scalar() or 0
        behind = []
        if self._after is not None:
            place = sa.tuple_(PATH, result.c.id)
            key = sa.tuple_(*(sa.literal(part) for part in self._after))
            behind = [place < key if self._down else place > key]
        order = [one.desc() if self._down else one for one in (PATH, result.c.id)]
        first: list[_Found] = []
        for lower, upper in pieces(last, budget):
            terms = [file.c.id > lower, file.c.id <= upper, ~IS_CURRENT, *self._terms, *behind]
            statement = sa.select(PATH, result.c.id).select_from(_FROM_FILES).where(*terms)
            statement = statement.order_by(*order).limit(self._query.limit)
            found = [_Found(*row) for row in self._connection.execute(statement)]
            first = list(heapq.merge(first, found, reverse=self._down))[: self._query.limit]
        return first

    def folders(self) -> Iterator[_Folder]:
        """Yield the folders in the order of their edges; those before the page are left out."""
        edge = sa.cast(folder.c.path.concat(b"0" if self._down else b"/"), sa.LargeBinary)
        within = []
        if self._query.inbox is not None:
            chosen = sa.select(inbox.c.id).where(inbox.c.path == self._query.inbox)
            within.append(folder.c.inbox_id.in_(chosen))
        # The inbox itself may have a path that comes before, or behind, those of all folders.
        for row in self._connection.execute(
            sa.select(folder.c.id).where(folder.c.path == b"", *within)
        ).all():
            yield _Folder(row.id, b"", b"\xff" * 8 if self._down else b"")
        place, passed = sa.tuple_(edge, folder.c.id), None
        while True:
            statement = sa.select(folder.c.id, folder.c.path, edge)
            statement = statement.where(folder.c.path != b"", *within, *self._not_passed())
            if passed is not None:
                key = sa.tuple_(*(sa.literal(part) for part in passed))
                statement = statement.where(place < key if self._down else place > key)
            order = (one.desc() if self._down else one for one in (edge, folder.c.id))
            found = self._connection.execute(statement.order_by(*order).limit(_FOLDERS)).all()
            yield from (_Folder(*row) for row in found)
            if len(found) < _FOLDERS:
                return
            passed = (found[-1][2], found[-1].id)

    def _not_passed(self) -> list[sa.ColumnElement[bool]]:
        """Leave out the folders all of whose paths lie before the page."""
        if self._after is None:
            return []
        if self._down:
            return [sa.cast(folder.c.path.concat(b"/"), sa.LargeBinary) <= self._after.path]
        return [sa.cast(folder.c.path.concat(b"0"), sa.LargeBinary) > self._after.path]

    def within(self, one: _Folder) -> list[_Found]:
        """Return the first results of a folder."""
        statement = (
            sa.select(file.c.name, result.c.id)
            .select_from(_FROM_FILES)
            .where(file.c.folder_id == one.id, IS_CURRENT, *self._terms)
        )
        before = one.path + b"/" if one.path else b""
        if self._after is not None and self._after.path.startswith(before):
            name = self._after.path.removeprefix(before)
            # A name has no slash, but the key may be in a folder further down.
            place = sa.tuple_(file.c.name, result.c.id)
            key = sa.tuple_(sa.literal(name), sa.literal(self._after.result_id))
            statement = statement.where(place < key if self._down else place > key)
        order = (one.desc() if self._down else one for one in (file.c.name, result.c.id))
        statement = statement.order_by(*order).limit(self._query.limit)
        return [_Found(before + name, number) for name, number in self._connection.execute(statement)]


def _key(query: Query) -> _Found | None:
    if query.after is None:
        return None
    path, number = query.after
    assert isinstance(path, bytes)
    return _Found(path, number)
