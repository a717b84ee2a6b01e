"""Portable SQL: expressions that SQLite and PostgreSQL write differently, and that mean the same on both.

Where the same words mean something else: text sorts by its bytes on SQLite and by language on PostgreSQL,
sums are integers on the one and decimals on the other, a cast to an integer cuts off or rounds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

# Longer patterns are refused by SQLite's LIKE (50,000 bytes) and typed by nobody.
_LONGEST_PATTERN = 1_000
# A literal, so that PostgreSQL knows an expression of GROUP BY again: of two bound values it does not know
# that they are the same.
ZERO: sa.ColumnElement[int] = sa.literal_column("0", sa.BigInteger)


class _ByDialect(FunctionElement[Any]):
    """Two expressions, of which the one for the database at hand is compiled."""

    name = "by_dialect"
    inherit_cache = True

    def __init__(self, sqlite: sa.ColumnElement[Any], postgresql: sa.ColumnElement[Any], type_: Any) -> None:
        super().__init__(sqlite, postgresql)
        self.type = type_


@compiles(_ByDialect)
def _compile(element: _ByDialect, compiler: Any, **options: Any) -> str:
    return f"({compiler.process(next(iter(element.clauses)), **options)})"


@compiles(_ByDialect, "postgresql")
def _compile_postgresql(element: _ByDialect, compiler: Any, **options: Any) -> str:
    return f"({compiler.process(list(element.clauses)[1], **options)})"


def by_bytes(text: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return a text that is compared and sorted by its bytes, as SQLite does anyway."""
    return _ByDialect(text, sa.collate(text, "C"), sa.Text())


def is_path(value: sa.ColumnElement[bytes], path: bytes) -> sa.ColumnElement[bool]:
    """Return whether the bytes of a path, however many they are, are those of another; found by an index.

    PostgreSQL's is one of digests: a value of more than 2,700 bytes fits into none of its own.
    """
    given = sa.literal(path, sa.LargeBinary)
    same_digest = sa.func.sha256(value) == sa.func.sha256(given)
    return _ByDialect(value == given, sa.and_(same_digest, value == given), sa.Boolean())


def total(number: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """Return the sum of whole numbers as a whole number."""
    return sa.cast(sa.func.sum(number), sa.BigInteger)


def whole_part(number: sa.ColumnElement[float]) -> sa.ColumnElement[int]:
    """Return a number of at least 0 without its fraction."""
    return _ByDialect(sa.cast(number, sa.Integer), sa.cast(sa.func.floor(number), sa.Integer), sa.Integer())


def hexadecimal(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return bytes as digits, A to F in capitals."""
    digits = sa.func.upper(sa.func.encode(value, sa.literal_column("'hex'")))
    return _ByDialect(sa.func.hex(value), digits, sa.Text())


def json_length(array: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Return how many elements the JSON array of a text has."""
    return _ByDialect(
        sa.func.json_array_length(array), sa.func.json_array_length(sa.cast(array, sa.JSON)), sa.Integer()
    )


def json_number(text: sa.ColumnElement[Any], *keys: str) -> sa.ColumnElement[Any]:
    """Return the number that a text of JSON objects within each other has under these keys, NULL for none."""
    quoted: list[sa.ColumnElement[Any]] = [sa.literal_column(f"'{key}'") for key in keys]
    found = sa.func.json_extract_path_text(sa.cast(text, sa.JSON), *quoted)
    path: sa.ColumnElement[Any] = sa.literal_column(f"'$.{'.'.join(keys)}'")
    return _ByDialect(sa.func.json_extract(text, path), sa.cast(found, sa.Double), sa.Double())


def tail(value: sa.ColumnElement[Any], length: int) -> sa.ColumnElement[Any]:
    """Return the last bytes of bytes, all of them where there are no more."""
    start = sa.func.length(value) - sa.literal(length - 1)
    return _ByDialect(sa.func.substr(value, -length), sa.func.substr(value, start), sa.LargeBinary())


def among(number: sa.ColumnElement[int], numbers: Sequence[int]) -> sa.ColumnElement[bool]:
    """Return whether a number is one of `numbers`, which are one bound value however many they are."""
    given = sa.literal(json.dumps(list(numbers)), sa.Text)
    listed = sa.select(sa.func.json_each(given).table_valued("value").c.value)
    # An array that is one already: made of a text it would be read again for every row.
    array = sa.literal(list(numbers), sa.ARRAY(sa.BigInteger))
    return _ByDialect(number.in_(listed), number == sa.func.any(array), sa.Boolean())


def lowered(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the bytes of a text, or bytes, with ASCII letters in lower case; all others as they are."""
    # As characters of one byte each: file names need not be text.
    characters = sa.func.convert_from(_bytes(value), sa.literal_column("'LATIN1'"))
    lower = sa.func.lower(sa.collate(characters, "C"))
    return _ByDialect(
        sa.cast(sa.func.lower(sa.cast(value, sa.Text)), sa.LargeBinary),
        sa.func.convert_to(lower, sa.literal_column("'LATIN1'")),
        sa.LargeBinary(),
    )


def has_bytes(value: sa.ColumnElement[Any], wanted: bytes) -> sa.ColumnElement[bool]:
    """Return whether bytes have others among them."""
    needle = sa.literal(wanted, sa.LargeBinary)
    place = sa.func.position(needle.op("IN")(value))
    return _ByDialect(sa.func.instr(value, needle), place, sa.Integer()) > ZERO


def contains(value: sa.ColumnElement[Any], text: str) -> sa.ColumnElement[bool]:
    """Search a text, or bytes, for a text, ASCII letters in either case, by the quickest exact way."""
    wanted = os.fsencode(text)
    if not any(chr(byte).isalpha() for byte in wanted if byte < 128) and wanted.isascii():
        as_bytes = _ByDialect(sa.cast(value, sa.LargeBinary), _bytes(value), sa.LargeBinary())
        return has_bytes(as_bytes, wanted)
    in_any_case = has_bytes(lowered(value), wanted.lower())
    if wanted.isascii() and text.isprintable() and len(wanted) <= _LONGEST_PATTERN:
        # SQLite's LIKE knows ASCII letters in either case, as lower() does, and lets no other byte pass.
        like = sa.cast(value, sa.Text).contains(text, autoescape=True)
        return _ByDialect(like, in_any_case, sa.Boolean())
    return in_any_case


def _bytes(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return what PostgreSQL has as text in bytes."""
    if isinstance(value.type, sa.LargeBinary):
        return value
    return sa.func.convert_to(value, sa.literal_column("'UTF8'"))
