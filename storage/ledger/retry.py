"""Retry policy: when a file that could not be judged is tried again, and when it is given up."""

from __future__ import annotations

from dataclasses import dataclass

from storage.records import Failed, FailureKind
from storage.schema import FileState

_SECOND_US = 1_000_000
# A lane can pass on any text of a decoder; a row must stay a row.
_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient the ledger is."""

    base_seconds: float = 1.0  # wait after the first failure
    factor: float = 2.0  # each further wait is so many times longer
    cap_seconds: float = 300.0  # but never longer than this
    attempts: int = 8  # failures after which a transient trouble counts as lasting
    deadline_seconds: float = 300.0  # how long an empty or truncated file may take to become whole

    @property
    def longest_wait_us(self) -> int:
        """No entry is ever put off further than this, so a later date means that the clock was set back."""
        return int(max(self.cap_seconds, self.deadline_seconds) * _SECOND_US)


@dataclass(frozen=True, slots=True)
class Step:
    """What the ledger does next with a file version."""

    state: FileState
    reason: str
    not_before_us: int | None = None  # only for PENDING


def next_step(failed: Failed, attempts: int, first_seen_us: int, now_us: int, policy: RetryPolicy) -> Step:
    """Return the step after the failure number `attempts` (1 for the first) of a version."""
    reason = " ".join(failed.reason.split())[:_LONGEST_REASON] or "no reason given"
    if failed.kind is FailureKind.GONE:
        return Step(FileState.GONE, reason)
    if failed.kind is FailureKind.CHANGED:
        return Step(FileState.CHANGED, reason)
    if failed.kind is FailureKind.PERMANENT:
        return Step(FileState.QUARANTINED, reason)
    if failed.kind is FailureKind.INCOMPLETE:
        return _until_deadline(reason, first_seen_us, now_us, policy)
    if attempts >= policy.attempts:
        return Step(FileState.QUARANTINED, f"gave up after {attempts} attempts: {reason}")
    # The exponent is bounded: a float overflows long before a patient policy runs out of attempts.
    wait = min(policy.cap_seconds, policy.base_seconds * policy.factor ** min(attempts - 1, 60))
    return Step(FileState.PENDING, reason, now_us + int(wait * _SECOND_US))


def _until_deadline(reason: str, first_seen_us: int, now_us: int, policy: RetryPolicy) -> Step:
    """Wait for a change, which would come as a new version; look a last time at the deadline."""
    deadline_us = first_seen_us + int(policy.deadline_seconds * _SECOND_US)
    if now_us >= deadline_us:
        waited = f"still incomplete after {policy.deadline_seconds:g} s: " if policy.deadline_seconds else ""
        return Step(FileState.QUARANTINED, waited + reason)
    # Bounded, should the clock have been set back since the version was first seen.
    return Step(FileState.PENDING, reason, min(deadline_us, now_us + policy.longest_wait_us))
