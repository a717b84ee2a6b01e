"""Statements compiled once and run with plain tuples: the hot path to the database.

SQLAlchemy's own execution builds a dictionary and a list per row; at thousands of rows a second
that is more than SQLite itself needs. The statement stays what it is, explicit and checked against
the schema; only its per-row dressing is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

Statement = sa.sql.ClauseElement

# Lengths of lists of values in `IN (...)`: a shorter list is filled up with its last value, so that
# few different texts are ever compiled.
_LENGTHS = (1, 8, 64, 512)
LONGEST = _LENGTHS[-1]


class Prepared:
    """One statement; `names` says in which order a row's values are given."""

    def __init__(self, statement: Statement | Callable[[str], Statement], names: Sequence[str]) -> None:
        """`statement` may be what makes it from a dialect's name, where dialects need different ones."""
        self._statement = statement
        self._names = list(names)
        self._texts: dict[str, str] = {}  # by the dialect's name

    def compile(self, connection: sa.Connection) -> None:
        """Make the text now, so that its first run takes no longer than any other."""
        self._compiled(connection)

    def many(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run the statement once per row."""
        if rows:
            connection.exec_driver_sql(self._compiled(connection), list(rows))

    def run(self, connection: sa.Connection, values: tuple[Any, ...]) -> None:
        """Run the statement once."""
        connection.exec_driver_sql(self._compiled(connection), values)

    def all(self, connection: sa.Connection, values: tuple[Any, ...]) -> list[Any]:
        """Return all rows of a query, as the driver's plain tuples."""
        with connection.exec_driver_sql(self._compiled(connection), values) as found:
            assert found.cursor is not None
            return list(found.cursor.fetchall())

    def _compiled(self, connection: sa.Connection) -> str:
        dialect = connection.dialect
        text = self._texts.get(dialect.name)
        if text is None:
            made = self._statement
            statement = made if isinstance(made, sa.sql.ClauseElement) else made(dialect.name)
            compiled: Any = statement.compile(dialect=dialect, column_keys=self._names)
            if compiled.positiontup != self._names:
                raise AssertionError(f"parameters are {compiled.positiontup}, not {self._names}")
            text = self._texts[dialect.name] = str(compiled)
        return text


class PreparedIn:
    """A query with `column IN (list)`, compiled for a few lengths of the list."""

    def __init__(
        self, statement: Callable[[list[sa.BindParameter[Any]]], sa.sql.ClauseElement], names: Sequence[str]
    ) -> None:
        """`statement` makes the query from the list's parameters; `names` are the ones before the list."""
        self._statement = statement
        self._names = list(names)
        self._by_length: dict[int, Prepared] = {}

    def all(self, connection: sa.Connection, values: tuple[Any, ...], items: Sequence[Any]) -> list[Any]:
        """Return all rows for any number of items."""
        found: list[Any] = []
        for start in range(0, len(items), LONGEST):
            chunk = list(items[start : start + LONGEST])
            length = next(length for length in _LENGTHS if length >= len(chunk))
            chunk += [chunk[-1]] * (length - len(chunk))
            found += self._of(length).all(connection, (*values, *chunk))
        return found

    def _of(self, length: int) -> Prepared:
        """Return the query for a length, made when it is first asked for: a start need not wait for all."""
        if length not in self._by_length:
            keys = [f"item_{number}" for number in range(length)]
            query = self._statement([sa.bindparam(key) for key in keys])
            self._by_length[length] = Prepared(query, [*self._names, *keys])
        return self._by_length[length]
