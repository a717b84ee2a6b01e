"""The random order is walked without an index, and is the one that SQL knows."""

from __future__ import annotations

from itertools import islice

import pytest
import sqlalchemy as sa

from storage.random_order import in_random_order, order_key
from storage.schema import review, review_order


@pytest.mark.parametrize("last", [0, 1, 2, 3, 4, 5, 6, 7, 8, 100, 1_597, 54_321])
def test_numbers_come_once_each_by_rising_key(last: int) -> None:
    assert list(in_random_order(last)) == sorted(range(1, last + 1), key=order_key)


def test_first_numbers_of_a_billion_come_at_once() -> None:
    first = list(islice(in_random_order(1_000_000_000), 1_000))

    assert len(set(first)) == 1_000
    assert sorted(first, key=order_key) == first
    assert order_key(first[-1]) < 5_000  # about 1,000 of a billion numbers among 2**31 keys


@pytest.mark.parametrize("number", [1, 2, 77, 2_147_483_646, 2_147_483_647, 4_000_000_000])
def test_key_is_the_one_of_sql(number: int) -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE review (file_id INTEGER)")
        connection.exec_driver_sql("INSERT INTO review VALUES (?)", (number,))

        assert connection.execute(sa.select(review_order).select_from(review)).scalar_one() == order_key(
            number
        )
    engine.dispose()


@pytest.mark.parametrize("period", [2, 7, 20, 21, 24, 34, 144, 155])
def test_prefix_of_the_order_is_even_over_what_repeats_among_the_files(period: int) -> None:
    """Series of equal length: no slice position is drawn more often than another."""
    drawn = list(islice(in_random_order(500_000), 5_000))

    counts = [sum(number % period == place for number in drawn) for place in range(period)]

    assert max(abs(count - 5_000 / period) for count in counts) <= 3 * (5_000 / period) ** 0.5
