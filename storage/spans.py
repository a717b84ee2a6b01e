"""How a time range is cut into what is counted ahead and what must be counted row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from storage.schema import TALLY_SECONDS

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
