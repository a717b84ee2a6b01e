"""Portable expressions have one value on SQLite and PostgreSQL, whatever order and language a server has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from storage import portable_sql as portable
from storage.database import open_reader, open_writer, reading
from tests.support.databases import DatabaseMaker

pytestmark = pytest.mark.databases


@pytest.fixture(scope="module")
def connection(make_module_database: DatabaseMaker) -> Iterator[sa.Connection]:
    database = make_module_database()
    open_writer(database).close()
    with open_reader(database) as connection, reading(connection):
        yield connection


def _value(connection: sa.Connection, expression: sa.ColumnElement[Any]) -> Any:
    return connection.execute(sa.select(expression)).scalar_one()


def _text(text: str) -> sa.ColumnElement[str]:
    return sa.literal(text, sa.Text)


def _bytes(value: bytes) -> sa.ColumnElement[bytes]:
    return sa.literal(value, sa.LargeBinary)


def test_text_is_sorted_by_its_bytes(connection: sa.Connection) -> None:
    words = ["b", "A", "a", "B", "-a", "é", "_", "\U0001f9e0", "\uffee", ""]
    source = sa.union_all(*(sa.select(_text(word).label("word")) for word in words)).subquery()

    found = connection.execute(sa.select(source.c.word).order_by(portable.by_bytes(source.c.word))).scalars()

    assert list(found) == sorted(words, key=str.encode)


@pytest.mark.parametrize("value", [b"IM-\xff\xc3\x89.PNG", "Ä İ K ß I i".encode(), b"\\303 \\x41", b""])
def test_only_ascii_letters_are_lowered(connection: sa.Connection, value: bytes) -> None:
    assert bytes(_value(connection, portable.lowered(_bytes(value)))) == value.lower()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(b"a\\303b", "303"), (b"\xc3\xa9", "303"), (b"\xc3\xa9.png", "É"), (b"A_b", "a%b"), (b"A_b", "a_B"),
     (b"x'y", "'Y"), (b"0-1", "0-1"), (b"\xff", "\udcff"), (b"abc", "\0"), (b"abc", "")],
)  # fmt: skip
def test_text_is_found_where_its_bytes_are(connection: sa.Connection, value: bytes, wanted: str) -> None:
    import os

    found = bool(_value(connection, portable.contains(_bytes(value), wanted)))

    assert found == (os.fsencode(wanted).lower() in value.lower())


@pytest.mark.parametrize("number", [0.0, 0.4, 0.5, 0.999, 1.5, 19.999])
def test_a_fraction_is_cut_off_and_not_rounded(connection: sa.Connection, number: float) -> None:
    assert _value(connection, portable.whole_part(sa.literal(number, sa.Double))) == int(number)


def test_sums_are_whole_numbers(connection: sa.Connection) -> None:
    numbers = sa.union_all(
        *(sa.select(sa.literal(one, sa.BigInteger).label("one")) for one in (1 << 40, 2))
    ).subquery()

    found = connection.execute(sa.select(portable.total(numbers.c.one))).scalar_one()

    assert (found, type(found)) == ((1 << 40) + 2, int)


@pytest.mark.parametrize(("length", "end"), [(1, b"c"), (2, b"\xffc"), (3, b"a\xffc"), (9, b"a\xffc")])
def test_the_tail_of_bytes_is_no_longer_than_they_are(
    connection: sa.Connection, length: int, end: bytes
) -> None:
    assert bytes(_value(connection, portable.tail(_bytes(b"a\xffc"), length))) == end


@pytest.mark.parametrize("numbers", [[], [7], [1 << 60, 7], list(range(5_000))])
def test_a_number_is_looked_for_in_a_list_of_any_length(
    connection: sa.Connection, numbers: list[int]
) -> None:
    found = _value(connection, portable.among(sa.literal(7, sa.BigInteger), numbers))

    assert bool(found) == (7 in numbers)


def test_bytes_are_told_in_capital_digits(connection: sa.Connection) -> None:
    assert _value(connection, portable.hexadecimal(_bytes(b"\x00\xab"))) == "00AB"


def test_numbers_are_read_from_json(connection: sa.Connection) -> None:
    rule = _text('{"series": {"threshold": 0.25}, "other": null}')

    assert _value(connection, portable.json_number(rule, "series", "threshold")) == 0.25
    assert _value(connection, portable.json_number(rule, "other", "threshold")) is None
    assert _value(connection, portable.json_length(_text('["a", "b"]'))) == 2
