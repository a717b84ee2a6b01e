"""Health of a daemon: one word, an exit code and reasons, for `status --check`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum

from config.text import printable
from daemon.views.daemon_status import DaemonStatus, Life, headline, inboxes

# A worker that was replaced is no trouble any more when the next ones have lived so long.
LANE_SECONDS = 60.0


class Word(StrEnum):
    """The three answers."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"  # it works, or is about to, but something is wrong
    DOWN = "down"  # nothing is judged


_EXIT_CODES = {Word.HEALTHY: 0, Word.DEGRADED: 1, Word.DOWN: 2}


@dataclass(frozen=True, slots=True)
class Health:
    """The answer."""

    word: Word
    reasons: tuple[str, ...]  # one line each, safe to show; of a healthy daemon since when it runs

    @property
    def exit_code(self) -> int:
        """0 healthy, 1 degraded, 2 down."""
        return _EXIT_CODES[self.word]

    def __str__(self) -> str:
        return f"{self.word.value}: {'; '.join(self.reasons)}"


def health(status: DaemonStatus, zone: tzinfo) -> Health:
    """Return how healthy the daemon is.

    Down: none runs, none ever ran, it died, or it has been silent for long while it names no trouble.
    Degraded: it has only just started, an inbox is degraded, the database takes nothing, workers are
    being replaced, or moves are stuck.
    """
    living = headline(status, zone)
    wrong = tuple(_wrong(status))
    if status.life is Life.RUNNING:
        return Health(Word.DEGRADED, wrong) if wrong else Health(Word.HEALTHY, (living,))
    if status.life is Life.SILENT and status.held_up:  # a full disk takes no heartbeat
        return Health(Word.DEGRADED, wrong)
    if status.life is Life.STARTING:
        return Health(Word.DEGRADED, (f"{living}: nothing is judged yet",))
    return Health(Word.DOWN, (living, *(wrong if status.lives else ())))


def _wrong(status: DaemonStatus) -> Iterator[str]:
    told = status.told
    for inbox in inboxes(status):
        if inbox.get("state") == "degraded":
            why = f": {inbox['why']}" if inbox.get("why") else ""
            yield printable(f"inbox {inbox.get('path', '?')} is degraded{why}")
    if status.trouble:
        yield printable(status.trouble)
    replaced = status.seconds_since(_time(told.get("lane_replaced_us")))
    if replaced is not None and replaced < LANE_SECONDS:
        yield f"lanes are being replaced, {told.get('lane_restarts', 'some')} so far"
    for why, number in (status.stored.move_troubles if status.stored is not None else {}).items():
        yield f"{number} moves are stuck ({printable(why)})"


def _time(value: object) -> int | None:
    return value if isinstance(value, int) else None
