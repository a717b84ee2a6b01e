"""Changes: what of one observation after another is worth a message, and when it may be told.

A state is told when it differs from the one told last, so that the last message is always right; one that
comes and goes faster than STATE_SECONDS is told once, with how often it changed. What only counts
(quarantined files, results of a class) is told at once and then at most every COUNT_SECONDS.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from daemon.notify.notice import Notice, NoticeEvent
from daemon.notify.observation import Matches, Observation
from daemon.notify.result_rule import ResultRule
from daemon.views.health_check import HealthCause, Reason, Word

STATE_SECONDS = 10.0
COUNT_SECONDS = 60.0
# Workers open their engines for so long at most before it is worth a word that none is ready.
START_SECONDS = 60.0
# Of a daemon that starts, and of one that was asked to end: it says so itself.
_NEVER_TOLD = (HealthCause.STARTING, HealthCause.STOPPED, HealthCause.NEVER)


@dataclass(slots=True)
class _State:
    """A state that is told when it is another than was told last."""

    told: Hashable
    seen: Hashable
    changes: int = 0  # since it was told
    not_before: float = float("-inf")

    def count(self, now: float, state: Hashable) -> int:
        """Return how often it has changed if it is to be told now, else 0."""
        if state != self.seen:
            self.seen = state
            self.changes += 1
        if state == self.told or now < self.not_before:
            return 0
        changes, self.changes = self.changes, 0
        self.told, self.not_before = state, now + STATE_SECONDS
        return changes


@dataclass(slots=True)
class _Tally:
    """A number of things that is told from time to time."""

    number: int = 0
    latest: Matches | None = None
    not_before: float = float("-inf")

    def take(self, now: float, *, at_once: bool) -> int:
        """Return the number since it was told if it is to be told now, else 0."""
        if not self.number or (now < self.not_before and not at_once):
            return 0
        number, self.number = self.number, 0
        self.not_before = now + COUNT_SECONDS
        return number


class Changes:
    """Compares observations; its memory is one state or number for each kind of message."""

    def __init__(self, first: Observation, now: float) -> None:
        """`first` is how things were before the daemon began: none of it is news."""
        self._began = now
        self._health = _State(frozenset(), frozenset())
        self._stored = _State(True, True)
        self._drift = _State(bool(first.drifting), bool(first.drifting))
        self._quarantined = first.quarantined
        self._quarantine = _Tally()
        self._results: dict[ResultRule, _Tally] = {}

    def of(self, seen: Observation, now: float) -> list[Notice]:
        """Return what is to be told now; `now` is a monotonic time, s."""
        reasons = [reason for reason in seen.health.told if self.counts(reason, now)]
        return [
            *self._of_health(seen, reasons, now),
            *self._of_drift(seen, now),
            *self.of_numbers(seen, now),
        ]

    def counts(self, reason: Reason, now: float) -> bool:
        """Whether a reason is trouble, and not only a daemon that starts or was asked to end."""
        early = reason.cause is HealthCause.NOT_READY and now < self._began + START_SECONDS
        return reason.cause not in _NEVER_TOLD and not early

    def of_numbers(self, seen: Observation, now: float, *, at_once: bool = False) -> list[Notice]:
        """Return what is to be told of quarantine and results; `at_once`: there will be no later."""
        return [*self._of_quarantine(seen, now, at_once), *self._of_results(seen, now, at_once)]

    def _of_health(self, seen: Observation, reasons: list[Reason], now: float) -> Iterator[Notice]:
        stored = HealthCause.NOT_STORED not in {reason.cause for reason in reasons}
        about: dict[str, Any] = {
            "health": seen.health.word.value if reasons else Word.HEALTHY.value,
            "causes": list(dict.fromkeys(reason.cause.value for reason in reasons)),
        }
        if changes := self._stored.count(now, stored):
            event = NoticeEvent.STORED_AGAIN if stored else NoticeEvent.NOT_STORED
            text = (
                "the database takes rows again; nothing was lost"
                if stored
                else Reason(HealthCause.NOT_STORED, "").anonymous
            )
            yield Notice(event, "storage", seen.time_us, text, about, changes)
        others = [reason for reason in reasons if reason.cause is not HealthCause.NOT_STORED]
        causes = frozenset(reason.cause for reason in others)
        if causes and isinstance(self._health.told, frozenset) and causes < self._health.told:
            self._health.told = self._health.seen = causes  # less of the same is no news
        if changes := self._health.count(now, causes):
            yield _health_notice(seen, others, about, changes)

    def _of_drift(self, seen: Observation, now: float) -> Iterator[Notice]:
        if seen.drifting is None or not (changes := self._drift.count(now, bool(seen.drifting))):
            return
        event = NoticeEvent.DRIFT if seen.drifting else NoticeEvent.DRIFT_OVER
        again = "differ from" if seen.drifting else "are again like"
        text = f"the latest images {again} those the model was made for"
        about = {"statistics": sorted(seen.drifting)}
        yield Notice(event, "drift", seen.time_us, text, about, changes)

    def _of_quarantine(self, seen: Observation, now: float, at_once: bool) -> Iterator[Notice]:
        if seen.quarantined is None:
            return
        before = seen.quarantined if self._quarantined is None else self._quarantined
        self._quarantined = seen.quarantined
        # What `retry` took out again is taken off what is still to be told.
        self._quarantine.number = max(0, self._quarantine.number + seen.quarantined - before)
        if number := self._quarantine.take(now, at_once=at_once):
            files = "1 more file" if number == 1 else f"{number} more files"
            text = f"{files} could not be judged, {seen.quarantined} in all (bt-daemon errors)"
            about = {"quarantined": seen.quarantined}
            yield Notice(NoticeEvent.QUARANTINE, "quarantine", seen.time_us, text, about, number)

    def _of_results(self, seen: Observation, now: float, at_once: bool) -> Iterator[Notice]:
        for matches in seen.matches:
            tally = self._results.setdefault(matches.rule, _Tally())
            tally.number += matches.count
            tally.latest = matches
        for rule, tally in self._results.items():
            if tally.latest is not None and (number := tally.take(now, at_once=at_once)):
                yield _result_notice(seen.time_us, rule, tally.latest, number)


def _health_notice(seen: Observation, reasons: list[Reason], about: dict[str, Any], changes: int) -> Notice:
    if not reasons:
        text = "recovered" if not about["causes"] else "recovered, but the database takes no rows"
        return Notice(NoticeEvent.RECOVERED, "health", seen.time_us, text, about, changes)
    event = NoticeEvent.DOWN if seen.health.word is Word.DOWN else NoticeEvent.DEGRADED
    why = "; ".join(dict.fromkeys(reason.anonymous for reason in reasons))
    return Notice(event, "health", seen.time_us, f"{event.value}: {why}", about, changes)


def _result_notice(time_us: int, rule: ResultRule, matches: Matches, number: int) -> Notice:
    row = matches.latest
    about = {
        "class": row.label,
        "confidence": row.confidence,
        "score": row.score,
        "status": row.status.value,
        "id": row.id,
    }
    images = "1 image" if number == 1 else f"{number} images"
    least = "" if rule.least is None else f" with {rule.least:g} or more"
    text = f"{images} of class {rule.label}{least}; the latest: bt-daemon show {row.id}"
    return Notice(NoticeEvent.RESULT, f"result {rule.label} {rule.least}", time_us, text, about, number)
