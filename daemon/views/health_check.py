"""Health of a daemon: one word with reasons, for `status`, the page, probes and metrics alike.

Every reason has a cause out of a fixed list and two texts: one for the operator, which names the inbox or the
database, and one that may leave the machine, which names nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum
from typing import Any

from config.text import printable
from daemon.views.daemon_status import DaemonStatus, Life, headline, inboxes

# A worker that was replaced is no trouble any more when the next ones have lived so long.
LANE_SECONDS = 60.0


class Word(StrEnum):
    """The three answers."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"  # it works, or is about to, but something is wrong
    DOWN = "down"  # nothing is judged


class HealthCause(StrEnum):
    """Everything that makes a daemon degraded or down; the words are those of the metrics' labels."""

    NEVER = "never_ran"
    STOPPED = "stopped"
    DIED = "died"
    SILENT = "silent"
    UNREADABLE = "database_unreadable"
    STARTING = "starting"
    NOT_STORED = "not_stored"
    INBOX = "inbox_degraded"
    WORKERS = "workers_failing"
    NOT_READY = "no_worker_ready"
    STUCK = "worker_stuck"
    REPLACED = "workers_replaced"
    MOVES = "moves_stuck"


_ANONYMOUS = {
    HealthCause.NEVER: "no daemon ever ran on this database",
    HealthCause.STOPPED: "the daemon was stopped",
    HealthCause.DIED: "the daemon ended without saying goodbye",
    HealthCause.SILENT: "the daemon's loop has not turned for {} s: busy or stuck",
    HealthCause.UNREADABLE: "the database cannot be read",
    HealthCause.STARTING: "the daemon is starting: nothing is judged yet",
    HealthCause.NOT_STORED: "the database takes no rows (a full disk, a lock, permissions)",
    HealthCause.INBOX: "inboxes that are away or cannot be watched: {}",
    HealthCause.WORKERS: "worker processes end before they are ready",
    HealthCause.NOT_READY: "no worker process is ready",
    HealthCause.STUCK: "worker processes without progress: {}",
    HealthCause.REPLACED: "worker processes are being replaced",
    HealthCause.MOVES: "moves of finished files that are stuck: {}",
}
_LIVES = {
    Life.NEVER: HealthCause.NEVER,
    Life.STOPPED: HealthCause.STOPPED,
    Life.DIED: HealthCause.DIED,
    Life.SILENT: HealthCause.SILENT,
}
_EXIT_CODES = {Word.HEALTHY: 0, Word.DEGRADED: 1, Word.DOWN: 2}


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is wrong."""

    cause: HealthCause
    text: str  # one line for the operator, safe to show
    number: int = 0  # how many of what the anonymous text counts

    @property
    def anonymous(self) -> str:
        """The same without a path, a name or anything else that came from a file."""
        return _ANONYMOUS[self.cause].format(self.number)


@dataclass(frozen=True, slots=True)
class Health:
    """The answer."""

    word: Word
    told: tuple[Reason, ...]  # what is wrong, the worst first; () of a healthy daemon
    living: str  # whether it works, and since when

    @property
    def reasons(self) -> tuple[str, ...]:
        """One line each, for the operator; of a healthy daemon since when it runs."""
        return tuple(reason.text for reason in self.told) or (self.living,)

    @property
    def exit_code(self) -> int:
        """0 healthy, 1 degraded, 2 down."""
        return _EXIT_CODES[self.word]

    @property
    def alive(self) -> bool:
        """Whether a daemon's loop turns, however well it works."""
        return self.word is not Word.DOWN

    def __str__(self) -> str:
        return f"{self.word.value}: {'; '.join(self.reasons)}"

    def anonymous(self) -> str:
        """Return word and causes in lines that name nothing: for probes that anybody may ask."""
        lines = dict.fromkeys(f"{reason.cause}: {reason.anonymous}" for reason in self.told)
        return "".join(f"{line}\n" for line in (self.word, *lines))


# Of a database that is there and cannot be read nothing else is known.
UNREADABLE = Health(
    Word.DOWN,
    (Reason(HealthCause.UNREADABLE, "the database cannot be read: see bt-daemon db check"),),
    "not known",
)


def health(status: DaemonStatus, zone: tzinfo) -> Health:
    """Return how healthy the daemon is.

    Down: none runs, none ever ran, it died, or its loop has not turned for 15 seconds.
    Degraded: it has only just started, an inbox is degraded, the database takes nothing, no worker is ready,
    workers make no progress or are being replaced, or moves are stuck.
    """
    living = headline(status, zone)
    wrong = tuple(_wrong(status))
    if status.life is Life.RUNNING:
        return Health(Word.DEGRADED if wrong else Word.HEALTHY, wrong, living)
    if status.life is Life.STARTING:
        reason = Reason(HealthCause.STARTING, f"{living}: nothing is judged yet")
        return Health(Word.DEGRADED, (reason, *_held_up(status)), living)
    seconds = round(status.seconds_since(status.turned_us) or 0)
    down = Reason(_LIVES[status.life], living, seconds)
    return Health(Word.DOWN, (down, *(wrong if status.lives else ())), living)


def _wrong(status: DaemonStatus) -> Iterator[Reason]:
    away = [inbox for inbox in inboxes(status) if inbox.get("state") == "degraded"]
    for inbox in away:
        why = f": {inbox['why']}" if inbox.get("why") else ""
        text = printable(f"inbox {inbox.get('path', '?')} is degraded{why}")
        yield Reason(HealthCause.INBOX, text, len(away))
    yield from _held_up(status)
    yield from _workers(status)
    for why, number in (status.stored.move_troubles if status.stored is not None else {}).items():
        yield Reason(HealthCause.MOVES, f"{number} moves are stuck ({printable(why)})", number)


def _held_up(status: DaemonStatus) -> Iterator[Reason]:
    if status.trouble:
        told = status.told
        of_workers = told.get("trouble_of") == "workers" and status.trouble == told.get("trouble")
        yield Reason(HealthCause.WORKERS if of_workers else HealthCause.NOT_STORED, printable(status.trouble))
    elif status.reports_late:
        yield Reason(HealthCause.NOT_STORED, "the daemon works, and its reports do not reach the database")


def _workers(status: DaemonStatus) -> Iterator[Reason]:
    census = status.told.get("workers")
    if isinstance(census, dict):
        ready, stuck = _count(census.get("ready")), _count(census.get("stuck"))
        if not ready:
            yield Reason(HealthCause.NOT_READY, "no worker process is ready: nothing is judged")
        if stuck:
            text = f"{stuck} of {_count(census.get('wanted'))} workers make no progress on their files"
            yield Reason(HealthCause.STUCK, text, stuck)
    replaced = status.seconds_since(_time(status.told.get("lane_replaced_us")))
    if replaced is not None and replaced < LANE_SECONDS:
        so_far = status.told.get("lane_restarts", "some")
        yield Reason(HealthCause.REPLACED, f"lanes are being replaced, {so_far} so far")


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _time(value: object) -> int | None:
    return value if isinstance(value, int) else None
