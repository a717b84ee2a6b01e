"""Upserts, and writes of many rows, as SQLite and PostgreSQL want them.

SQLite runs one statement a row: there is no way to a faster one. PostgreSQL gets all rows as one array a
column, so that a batch is one round trip, one text for any number of rows, and planned once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage.statements import Prepared

# A parameter cannot have the name of a column that is set.
_ALL = "all_"
Changes = Callable[[Any], Mapping[str, Any]]  # of the row that could not be inserted -> what is set


def insert_of(table: sa.Table, dialect: str) -> Any:
    """Return an INSERT that can be told what to do about a row that is there, for a dialect by its name."""
    # Each is imported where it is needed: PostgreSQL's costs 23 ms.
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


@dataclass(frozen=True, slots=True)
class Upsert:
    """Insert rows, or change those that are there by a unique key."""

    table: sa.Table
    keys: Sequence[str]
    changes: Changes

    def statement(self, dialect: str, rows: sa.Select[Any] | None = None, names: Sequence[str] = ()) -> Any:
        """Return the statement for one row of bound values, or for the rows of a query by their `names`."""
        insert = insert_of(self.table, dialect)
        if rows is not None:
            insert = insert.from_select(list(names), rows)
        keys = [self.table.c[key] for key in self.keys]
        return insert.on_conflict_do_update(index_elements=keys, set_=self.changes(insert.excluded))


class ManyRows:
    """A statement that writes any number of rows, given as tuples in the order of `names`.

    No two rows of one call may mean the same row of the table.
    """

    def __init__(
        self, table: sa.Table, names: Sequence[str], one: Prepared, many: Callable[[sa.FromClause], Any]
    ) -> None:
        """`one` is the statement for one row, `many` makes that for the rows of a table."""
        self._one = one
        columns = [table.c[name] for name in names]
        self._all = Prepared(lambda _: many(_given(columns)), [f"{_ALL}{name}" for name in names])
        self._convert = [_converter(column) for column in columns]

    def write(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write all rows; nothing is asked of the database for none."""
        if not rows:
            return
        if connection.dialect.name == "sqlite":
            self._one.many(connection, rows)
            return
        values = tuple(
            list(column)
            if convert is None
            else [None if value is None else convert(value) for value in column]
            for convert, column in zip(self._convert, zip(*rows, strict=True), strict=True)
        )
        self._all.run(connection, values)


def many_inserts(table: sa.Table, names: Sequence[str]) -> ManyRows:
    """Return what inserts rows that are new."""

    def many(given: sa.FromClause) -> Any:
        return table.insert().from_select(list(names), sa.select(*(given.c[name] for name in names)))

    return ManyRows(table, names, Prepared(table.insert(), names), many)


def many_upserts(upsert: Upsert, names: Sequence[str]) -> ManyRows:
    """Return what inserts rows, or changes those that are there."""

    def many(given: sa.FromClause) -> Any:
        rows = sa.select(*(given.c[name] for name in names))
        return upsert.statement("postgresql", rows, names)

    return ManyRows(upsert.table, names, Prepared(upsert.statement, names), many)


def many_updates(table: sa.Table, names: Sequence[str], key: str) -> ManyRows:
    """Return what changes rows that are there, each named by `key`, the last of `names`."""
    *changed, last = names
    assert last == key

    def many(given: sa.FromClause) -> Any:
        return (
            table.update()
            .where(table.c[key] == given.c[key])
            .values({name: given.c[name] for name in changed})
        )

    # The key by another name: what is set is bound by the names of columns.
    one = Prepared(table.update().where(table.c[key] == sa.bindparam("of_key")), [*changed, "of_key"])
    return ManyRows(table, names, one, many)


def _given(columns: Sequence[sa.Column[Any]]) -> sa.FromClause:
    """Return the rows of arrays that are bound by the names of columns."""
    arrays = [sa.bindparam(f"{_ALL}{column.name}", type_=sa.ARRAY(column.type)) for column in columns]
    plain = [sa.column(column.name, column.type) for column in columns]
    return sa.func.unnest(*arrays).table_valued(*plain, name="given").render_derived()


def _converter(column: sa.Column[Any]) -> Callable[[Any], Any] | None:
    """Return what makes plain numbers of an enumeration's or numpy's: an array must be of one kind."""
    if isinstance(column.type, sa.Integer):
        return int
    return float if isinstance(column.type, sa.Float) else None
