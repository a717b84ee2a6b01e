"""What the inbox's tests share: a clock that can be moved, a memory of versions, waiting with a deadline."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daemon.inbox.inbox import Inbox, InboxRules
from storage.records import FileVersion


class MovableClock:
    """Real time plus what a test adds: settle times and deadlines pass without waiting."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.wall_ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def now_us(self) -> int:
        return time.time_ns() // 1000 + round((self.ahead + self.wall_ahead) * 1e6)


class Bench:
    """An inbox on a real folder, and everything it has handed over."""

    def __init__(self, folder: Path, rules: InboxRules, unknown: Any = None) -> None:
        self.folder = folder
        self.clock = MovableClock()
        self.handed: list[FileVersion] = []
        self.known: set[FileVersion] = set()
        self.wakes = 0
        self.inbox = Inbox(
            os.fsencode(folder),
            1,
            rules,
            unknown=unknown or self.unknown,
            wake=self._wake,
            clock=self.clock,
            log=logging.getLogger("bt-daemon"),
        )

    def unknown(self, versions: Sequence[FileVersion]) -> list[FileVersion]:
        return [version for version in versions if version not in self.known]

    def turn(self) -> list[FileVersion]:
        """Step once, as the reactor does, and remember what came."""
        found = self.inbox.step()
        self.handed += found
        self.known.update(found)
        return found

    def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Step until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.names, self.inbox.health())
            self.turn()
            time.sleep(0.002)

    def first_scan(self) -> None:
        """Step until the first scan has finished."""
        self.until(lambda: self.inbox.health().last_scan_age_seconds is not None)

    def quiet(self, seconds: float = 0.15) -> None:
        """Step for a moment of real time: events that are under way arrive."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.turn()
            time.sleep(0.005)

    def pass_time(self, seconds: float) -> None:
        """Let time pass at once, then do what has fallen due."""
        self.clock.ahead += seconds
        self.quiet(0.03)

    @property
    def names(self) -> list[str]:
        """What was handed over, relative paths, sorted."""
        return sorted(os.fsdecode(version.path) for version in self.handed)

    def _wake(self) -> None:
        self.wakes += 1


@contextmanager
def opened(folder: Path, *, unknown: Any = None, scanned: bool = True, **rules: Any) -> Iterator[Bench]:
    """An inbox that is started, and scanned once; closed at the end."""
    folder.mkdir(exist_ok=True)
    bench = Bench(folder, InboxRules(**rules), unknown)
    with bench.inbox:
        bench.inbox.start()
        if scanned:
            bench.first_scan()
        yield bench


def age(seconds: float, bench: Bench) -> None:
    """Make every file present look that much older, ctime included: only the clock can do that."""
    bench.clock.ahead += seconds
