"""Random order of the files: the same for everybody, enumerated without an index.

The key of a file is `file_id * STEP % PRIME`. With a step of about the golden ratio any prefix of the
order is spread evenly over the numbers (a Kronecker sequence), whatever repeats among the files, and the
order of 1 to n can be walked step by step: neighbours differ by one of three distances (Sós 1958, the
three-distance theorem), so finding the next file costs one addition however many files there are.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

# 2**31 - 1, and that over the golden ratio. Another number makes the samples drawn so far worthless.
PRIME, STEP = 2_147_483_647, 1_327_217_885


def order_key(file_id: int) -> int:
    """Return the place of a file in the random order."""
    return file_id % PRIME * STEP % PRIME


def random_order_of(file_id: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """Return the same place in SQL; in literals, for an index."""
    prime, step = (sa.literal_column(str(number), sa.BigInteger) for number in (PRIME, STEP))
    return file_id % prime * step % prime


def in_random_order(last_id: int) -> Iterator[int]:
    """Yield the numbers 1 to `last_id` by rising key; beyond the prime (2.1e9) the keys begin anew."""
    count = min(last_id + 1, PRIME)  # with 0, whose key is the smallest
    up, down = _neighbours(count)
    number = 0
    for _ in range(count - 1):
        if number < count - up:
            number += up
        elif number >= down:
            number -= down
        else:
            number += up - down
        yield number


def _neighbours(count: int) -> tuple[int, int]:
    """Return which numbers below `count` come next to 0 from above and from below."""
    up, above = 1, STEP
    down, below = 1, PRIME - STEP
    while up + down < count:
        if above > below:
            up, above = up + down, above - below
        else:
            down, below = up + down, below - above
    return up, down
