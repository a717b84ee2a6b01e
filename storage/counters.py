"""Counters of results per minute and per day, kept in the transaction that changes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from storage.schema import TALLY_SECONDS, tally
from storage.upsert import Upsert, many_upserts

_SECOND_US = 1_000_000
_FINEST = min(TALLY_SECONDS)


# (inbox_id, model_id, label_id or 0, status code)
Kind = tuple[int, int, int, int]


class TallyChanges:
    """The sum of what one transaction adds and takes away, written once."""

    def __init__(self) -> None:
        self._deltas: Counter[tuple[int, int, int, int, int]] = Counter()

    def add(self, by: int, completed_us: int, kind: Kind) -> None:
        """Count a result (by=1) or uncount one (by=-1)."""
        self._deltas[bucket(completed_us, _FINEST), *kind] += by

    def write(self, connection: sa.Connection) -> None:
        """Add the changes to the tallies."""
        rows = []
        for seconds in TALLY_SECONDS:
            merged: Counter[tuple[int, int, int, int, int]] = Counter()
            for (start_us, inbox_id, model_id, label_id, status), delta in self._deltas.items():
                merged[bucket(start_us, seconds), inbox_id, model_id, label_id, status] += delta
            rows += [(seconds, *key, delta) for key, delta in merged.items() if delta]
        _UPSERT.write(connection, rows)


def bucket(time_us: int, seconds: int) -> int:
    """Return the start of the span of `seconds` that holds a time, in microseconds since the epoch."""
    return time_us - time_us % (seconds * _SECOND_US)


def drop_empty(connection: sa.Connection) -> None:
    """Delete the tallies that count nothing any more."""
    connection.execute(tally.delete().where(tally.c.count == 0))


_UPSERT = many_upserts(
    Upsert(
        tally,
        [column.name for column in tally.primary_key.columns],
        lambda new: {"count": tally.c.count + new.count},
    ),
    ["seconds", "start_us", "inbox_id", "model_id", "label_id", "status", "count"],
)


_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """Part of a range: `seconds` names the tallies that cover it exactly, 0 means only rows do."""

    seconds: int
    since_us: int | None  # inclusive, None: from the beginning
    until_us: int | None  # exclusive, None: without an end


def split(
    since_us: int | None, until_us: int | None, lengths: tuple[int, ...] = (*TALLY_SECONDS, 0)
) -> Iterator[Span]:
    """Yield spans that together are the range, without overlap: longest tallies first, then the edges."""
    if since_us is not None and until_us is not None and since_us >= until_us:
        return
    seconds, finer = lengths[0], lengths[1:]
    if not seconds:
        yield Span(0, since_us, until_us)
        return
    first = None if since_us is None else _up(since_us, seconds)
    last = None if until_us is None else _down(until_us, seconds)
    if first is not None and last is not None and first >= last:
        yield from split(since_us, until_us, finer)
        return
    yield Span(seconds, first, last)
    if first is not None:
        yield from split(since_us, first, finer)
    if last is not None:
        yield from split(last, until_us, finer)


def _down(time_us: int, seconds: int) -> int:
    return time_us - time_us % (seconds * _SECOND_US)


def _up(time_us: int, seconds: int) -> int:
    return -_down(-time_us, seconds)
