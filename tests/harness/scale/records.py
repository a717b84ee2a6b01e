"""Records of lanes: which files they began and ended and when, read from what `SleepingLanes` noted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Event:
    """One batch that was begun or ended."""

    host: int
    what: str  # "begin" or "end"
    at: float  # monotonic seconds
    files: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """How soon what a host held when its link was cut was begun elsewhere."""

    files: int
    first_seconds: float | None  # from the cut until the first of them; None: there were none
    last_seconds: float | None


def read(folder: Path) -> list[Event]:
    """Return the events of all nodes of a run, in time."""
    events: list[Event] = []
    for record in folder.glob("node-*.record"):
        events += _events(record)
    return sorted(events, key=lambda event: event.at)


def judged_twice(events: Iterable[Event]) -> int:
    """Return how many images were judged once more than needed."""
    times = Counter(number for event in events if event.what == "end" for number in event.files)
    return sum(times.values()) - len(times)


def moved(events: list[Event], host: int, cut_at: float) -> Moved:
    """Return how soon the files that a host had begun before `cut_at` were begun on another after it."""
    held = {
        number
        for event in events
        if event.host == host and event.what == "begin" and event.at <= cut_at
        for number in event.files
    }
    elsewhere = [
        (event.at - cut_at, number)
        for event in events
        if event.host != host and event.what == "begin" and event.at > cut_at
        for number in event.files
        if number in held
    ]
    if not elsewhere:
        return Moved(0, None, None)
    return Moved(
        len({number for _, number in elsewhere}), round(elsewhere[0][0], 1), round(elsewhere[-1][0], 1)
    )


def _events(record: Path) -> Iterator[Event]:
    host = int(record.stem.rpartition("-")[2])
    for line in record.read_text().splitlines():
        what, at, *files = line.split(" ")
        if what in ("begin", "end"):
            yield Event(host, what, float(at), tuple(map(int, files)))
