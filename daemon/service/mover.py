"""Move files whose row is committed; each move that cannot be done waits on its own.

A move that fails is tried again after 1, 2, 4 ... 60 seconds, also after a restart, and holds up no other.
Where a whole target takes no file (full, read-only) only one file is tried each time, so that a large
backlog costs nothing. What was moved and could not be marked, because the database took nothing, is
marked with the next turn; after a crash the move itself finds the file where it lies.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from config.errors import DatabaseError
from config.text import printable_name
from daemon.clock import Clock
from daemon.log import CauseLog
from daemon.service.move import MoveError, bring_home, move_away
from storage.ledger.moves import MoveFailed

if TYPE_CHECKING:
    from storage.ledger.moves import MoveDue, Moves

_AT_A_TIME = 200
# The loop has other things to do: a turn of moving lasts about so long.
_TURN_SECONDS = 0.5
_DATABASE_RETRY_SECONDS = 0.5
_MOST_WAIT_SECONDS = 60.0


class _Target:
    """A folder that moves go to."""

    def __init__(self, path: str) -> None:
        self.path = os.fsencode(os.path.abspath(path)) if path else b""
        self.not_before = 0.0  # monotonic seconds
        self._wait = 1.0

    def refused(self, now: float) -> None:
        """Leave it alone for a while, each time longer."""
        self.not_before = now + self._wait
        self._wait = min(_MOST_WAIT_SECONDS, 2 * self._wait)

    def accepted(self) -> None:
        """It took a file."""
        self._wait = 1.0


class Mover:
    """Carries out the moves that the ledger says are due, some each turn."""

    def __init__(
        self,
        moves: Moves,
        roots: Mapping[int, bytes],
        done_dir: str,
        quarantine_dir: str,
        *,
        logger: logging.Logger,
        clock: Clock,
    ) -> None:
        self._moves = moves
        self._roots = roots
        self._targets = {False: _Target(done_dir), True: _Target(quarantine_dir)}
        self._logger = logger
        self._log = CauseLog(logger, clock.monotonic)
        self._monotonic = clock.monotonic
        self._now_us = clock.now_us
        self._moved: dict[int, tuple[MoveDue, bytes | None]] = {}  # done, and not marked yet
        self._failed: list[MoveFailed] = []
        self._due = 0.0

    def wake(self) -> None:
        """Say that results were committed, whose moves are due."""
        self._due = min(self._due, self._monotonic())

    def next_due(self) -> float:
        """Return when `turn` has something to do, monotonic seconds; inf if nothing waits."""
        return self._due

    def turn(self) -> None:
        """Move what is due for about half a second, and say in the ledger where it went.

        Raises DatabaseError only for what waiting does not mend.
        """
        if self._monotonic() < self._due:
            return
        try:
            self._mark()
            for quarantined, target in self._targets.items():
                if target.path and self._monotonic() >= target.not_before:
                    self._move(quarantined, target)
            self._mark()
            self._plan()
        except DatabaseError as error:
            if not error.transient:
                raise
            self._due = self._monotonic() + _DATABASE_RETRY_SECONDS

    def _move(self, quarantined: bool, target: _Target) -> None:
        end = self._monotonic() + _TURN_SECONDS
        for due in self._moves.due(_AT_A_TIME, self._roots.keys(), quarantined=quarantined):
            if due.file_id in self._moved:
                continue
            try:
                path = move_away(self._roots[due.version.inbox_id], due.version, target.path)
            except MoveError as error:
                self._failed.append(MoveFailed(due, error.reason))
                self._say(due, target, error)
                if error.place:
                    target.refused(self._monotonic())
                    return
            else:
                self._moved[due.file_id] = (due, path)
                target.accepted()
            if self._monotonic() >= end:
                return

    def _mark(self) -> None:
        """Store what was done; nothing is forgotten before that has succeeded."""
        unwanted = self._moves.mark([(file_id, path) for file_id, (_, path) in self._moved.items()])
        moved, self._moved = self._moved, {}
        self._moves.put_off(self._failed)
        self._failed = []
        for file_id in unwanted:
            due, path = moved[file_id]
            if path is not None:
                self._return(due, path)

    def _return(self, due: MoveDue, path: bytes) -> None:
        """Bring a file back that `retry` wanted judged again while it was being moved."""
        try:
            home = bring_home(self._roots[due.version.inbox_id], due.version, path)
        except MoveError as error:
            self._logger.warning("%s lies at %s: %s", due.version.path, printable_name(path), error.reason)
            return
        if home is not None:
            home.finish()

    def _plan(self) -> None:
        """Set when the next turn has something to do."""
        next_us = self._moves.next_us(self._roots.keys())
        if next_us is None:
            self._due = float("inf")
            return
        wait = max(0.0, (next_us - self._now_us()) / 1e6)
        now = self._monotonic()
        # What is due now may be what a full target holds up: then the target says when.
        free = min((target.not_before for target in self._targets.values() if target.path), default=now)
        self._due = max(now + min(wait, _MOST_WAIT_SECONDS), min(free, now + _MOST_WAIT_SECONDS))

    def _say(self, due: MoveDue, target: _Target, error: MoveError) -> None:
        self._log(
            f"move {error.reason}",
            f"cannot move {printable_name(due.version.path)} to {printable_name(target.path)} "
            f"({error.reason}); it stays in the inbox and is tried again, its result is stored",
        )
