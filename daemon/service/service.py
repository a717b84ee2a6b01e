"""The daemon's one loop: inboxes in, workers between, the ledger out.

Everything happens on one thread, so there is nothing to lock and no order to prove: wait until
something is ready, collect what the workers finished, ask the inboxes what is complete, store both in
one transaction, hand out the next work. The loop's body is `step`; `run` only repeats it.

What must not be lost is always in one of three places: in the folder, in `_found`/`_outcomes`
(kept until a commit has succeeded, repeated verbatim if it failed), or in the ledger.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from config.errors import BtError, DatabaseError
from config.text import printable_name
from daemon.clock import Clock
from daemon.inbox.watched_inbox import WatchedInbox
from daemon.service.mover import Mover
from daemon.service.signals import StopSignal, Waker
from daemon.workers.lanes import Lanes
from daemon.workers.messages import Task
from storage.ledger.ledger import Ledger
from storage.records import Entry, Failed, FailureKind, FileVersion, Outcome
from storage.schema import FileState

# Entries kept in memory between ledger and workers. More would only cost memory, fewer would cost a
# query more often; the ledger holds the rest of any backlog.
QUEUE_LIMIT = 2048
# While the database takes nothing, this many found versions are kept for the next try before the
# inboxes are left alone; the files are still in the folder, a later scan finds them again.
HELD_LIMIT = 20_000
# How long the workers may finish what they have after a stop; the promise is to exit within 10 s.
FINISH_SECONDS = 6.0
STORE_RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0)
# How soon a file that `bt-daemon retry` put back is taken up.
NOTICE_SECONDS = 1.0
# With --once, how long to wait for a file that failed for a reason that may pass.
ONCE_PATIENCE_SECONDS = 10.0
# With --once, how long to wait for an inbox that is away: a network folder is often back in a moment.
ONCE_AWAY_SECONDS = 30.0
# So many files with an error are known by number, to count them once more they are retried and judged.
ERRORS_REMEMBERED = 100_000


class InboxAwayError(BtError):
    """With `--once`: an inbox went away before everything in it was judged, and stayed away."""


class Watcher(Protocol):
    """Who is told how the work goes: the status row, the progress bar."""

    def turned(self, service: Service) -> None:
        """Called after every turn of the loop; must be cheap."""


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one entry, as it was committed."""

    entry: Entry
    outcome: Outcome
    state: FileState  # PENDING: it is tried again; QUARANTINED: it has an error row


class OutcomeReporter(Protocol):
    """Who is told what became of each image: the log, the last images at a terminal."""

    def stored(self, told: Sequence[Told]) -> None:
        """Called after every commit; must be cheap."""


@dataclass(slots=True)
class Counters:
    """What this run has done so far, as the database holds it: `failed` are its error rows."""

    found: int = 0
    judged: int = 0
    failed: int = 0
    stored_transactions: int = 0
    store_failures: int = 0  # commits that the database refused; each was tried again
    last_error: str = ""


@dataclass(slots=True)
class Service:
    """Owns nothing but the order of things; its parts are opened and closed by the caller."""

    ledger: Ledger
    inboxes: Sequence[WatchedInbox]
    workers: Lanes
    model_id: int
    waker: Waker
    clock: Clock
    logger: logging.Logger
    watchers: Sequence[Watcher] = ()
    mover: Mover | None = None
    reporters: Sequence[OutcomeReporter] = ()
    weights_sha256: str = ""  # of the model that judges
    check_database: Callable[[], None] = lambda: None  # raises if the file is not the one that is open
    counters: Counters = field(default_factory=Counters)

    _queue: deque[Entry] = field(default_factory=deque)
    _in_flight: dict[int, Entry] = field(default_factory=dict)
    _found: list[FileVersion] = field(default_factory=list)
    _outcomes: list[Outcome] = field(default_factory=list)
    _more_in_ledger: bool = True
    _present: frozenset[int] = frozenset()  # the inboxes whose folder is there
    _away_since: float | None = None  # monotonic time at which one was first missed
    _pending: int = 0  # entries found in this run or left by an earlier one, without outcome yet
    _errors: set[int] = field(default_factory=set)  # files with an error row of this run
    _next_due: float = float("inf")  # monotonic time at which a retry in the ledger falls due
    _notice_due: float = 0.0
    _store_failures: int = 0
    _store_not_before: float = 0.0

    def run(self, stop: StopSignal, *, once: bool = False) -> None:
        """Work until stopped, or with `once` until everything present has been judged."""
        self._pending = self.ledger.counts().pending
        while not stop.requested and not (once and self.drained()):
            self.step(self._patience())
        self._finish()

    def step(self, timeout: float | None = 0.0) -> None:
        """Do one turn: wait at most `timeout` seconds, collect, look, store, hand out."""
        self.waker.wait(self.workers.waitables(), timeout)
        self._outcomes += self.workers.collect()
        self._look()
        self._notice_roots()
        self._notice_others()
        # After a failure an empty transaction asks whether the database answers again.
        if self._found or self._outcomes or self._store_failures:
            self._store()
        if self.mover is not None and not self._store_failures:
            self.mover.turn()
        self._dispatch()
        for watcher in self.watchers:
            watcher.turned(self)

    def drained(self) -> bool:
        """Whether nothing is left to do now: scanned, judged and stored."""
        if self._found or self._outcomes or self._queue or self._in_flight or self._more_in_ledger:
            return False
        if self._next_due - self.clock.monotonic() < ONCE_PATIENCE_SECONDS:
            return False
        if self.mover is not None and self.mover.next_due() <= self.clock.monotonic():
            return False
        if self._away_since is not None:
            return self.clock.monotonic() - self._away_since >= ONCE_AWAY_SECONDS
        return all(inbox.root_present() and inbox.idle() for inbox in self.inboxes)

    def left_behind(self) -> InboxAwayError | None:
        """Return why a single pass could not be a whole one: an inbox that is away; None if none is."""
        away = [inbox.root for inbox in self.inboxes if not inbox.root_present()]
        if not away:
            return None
        return InboxAwayError(
            f"inbox is away (gone, not mounted or not reached): {', '.join(map(printable_name, away))}; "
            f"{self.ledger.counts().pending} images wait there",
            hint="bring it back and give the same command again",
        )

    @property
    def waiting(self) -> int:
        """How many entries are queued or being judged right now (the ledger may hold more)."""
        return len(self._queue) + len(self._in_flight)

    @property
    def trouble(self) -> str:
        """What holds the work up right now, '' if nothing does."""
        return self.counters.last_error if self._store_failures else self.workers.trouble

    def known_work(self) -> int:
        """Return how many images this run knows of so far, judged or waiting."""
        return self.counters.judged + self.counters.failed + max(self.waiting, self._pending)

    def _patience(self) -> float | None:
        """Return how long the next wait may last."""
        now = self.clock.monotonic()
        if self.workers.room(len(self._queue)) > 0 and not self._store_failures:
            return 0.0
        due = min((inbox.next_due() for inbox in self.inboxes), default=float("inf"))
        due = min(due, self.workers.next_deadline(), now + 1.0)  # at least once a second: the status row
        if self._found or self._outcomes or self._store_failures:
            due = min(due, self._store_not_before)
        if not self._store_failures:
            due = min(due, self._next_due, self.mover.next_due() if self.mover is not None else due)
        return max(0.0, due - now)

    def _notice_others(self) -> None:
        """Once a second, see whether `retry` has put files back."""
        now = self.clock.monotonic()
        if now < self._notice_due:
            return
        self._notice_due = now + NOTICE_SECONDS
        self.check_database()
        if self._store_failures:
            return
        try:
            if self.ledger.changed_elsewhere():
                self._more_in_ledger = True
        except DatabaseError as error:
            self._store_failed(error)

    def _notice_roots(self) -> None:
        """See which inboxes are there; what one left in the ledger is taken up when it is back."""
        present = frozenset(inbox.inbox_id for inbox in self.inboxes if inbox.root_present())
        if present - self._present:
            self._more_in_ledger = True
        self._present = present
        if len(present) == len(self.inboxes):
            self._away_since = None
        elif self._away_since is None:
            self._away_since = self.clock.monotonic()

    def _look(self) -> None:
        if len(self._found) >= HELD_LIMIT:
            return
        for inbox in self.inboxes:
            self._found += inbox.step()

    def _store(self) -> None:
        """Commit what was found and concluded together; on failure keep it for the next turn."""
        if self.clock.monotonic() < self._store_not_before:
            return
        asked = [(outcome, self._doubtful(outcome)) for outcome in self._outcomes]
        outcomes = [self._believed(outcome) for outcome, doubtful in asked if not doubtful]
        released = [outcome for outcome, doubtful in asked if doubtful]
        self.check_database()
        try:
            with self.ledger.transaction():
                entries = self.ledger.add(self._found)
                states = self.ledger.record(outcomes, self.model_id)
        except DatabaseError as error:
            self._store_failed(error)
            return
        self._stored(entries, outcomes, released, states)

    def _stored(
        self,
        entries: list[Entry],
        outcomes: list[Outcome],
        released: list[Outcome],
        states: dict[int, FileState],
    ) -> None:
        if recovered := self._store_failures > 0:
            self.logger.info("the database takes rows again; nothing was lost")
            self._more_in_ledger = True  # a commit whose answer was lost may hold what is not queued
        self._store_failures, self._store_not_before = 0, 0.0
        self.counters.stored_transactions += 1
        self.counters.found += len(self._found)
        self._report(outcomes, states)
        for outcome in released:
            self._in_flight.pop(outcome.file_id, None)
            self._more_in_ledger = True
        self._found, self._outcomes = [], []
        again = sum(state is FileState.PENDING for state in states.values())
        self._pending = max(0, self._pending + len(entries) - len(outcomes) + again)
        self._enqueue(entries)
        if self.mover is not None and outcomes:
            self.mover.wake()
        try:
            if again or recovered or self._next_due < float("inf"):  # else nothing is put off
                self._schedule_retries()
        except DatabaseError as error:  # all that was committed is; what is due is asked for again
            self._more_in_ledger = True
            self._store_failed(error)

    def _store_failed(self, error: DatabaseError) -> None:
        self.counters.last_error = str(error)
        if not error.transient:
            raise error
        delay = STORE_RETRY_SECONDS[min(self._store_failures, len(STORE_RETRY_SECONDS) - 1)]
        if self._store_failures == 0:
            self.logger.warning(
                "%s; results are kept in memory and stored when it takes rows again", error.what
            )
        self._store_failures += 1
        self.counters.store_failures += 1
        self._store_not_before = self.clock.monotonic() + delay

    def _report(self, outcomes: list[Outcome], states: dict[int, FileState]) -> None:
        """Count what was committed, and tell who wants to know of each image."""
        told = []
        for outcome in outcomes:
            entry = self._in_flight.pop(outcome.file_id, None)
            state = states.get(outcome.file_id)
            if entry is not None and state is not None:
                told.append(Told(entry, outcome, state))
                self._count(told[-1])
        for reporter in self.reporters:
            reporter.stored(told)

    def _count(self, told: Told) -> None:
        """Count as the database does: an attempt is no error, and an error that was mended is none."""
        file_id, result = told.entry.file_id, told.outcome.result
        if told.state is FileState.DONE:
            self.counters.judged += 1
            if file_id in self._errors:
                self._errors.discard(file_id)
                self.counters.failed -= 1
        elif told.state is FileState.QUARANTINED and file_id not in self._errors:
            self.counters.failed += 1
            if len(self._errors) < ERRORS_REMEMBERED:
                self._errors.add(file_id)
        if isinstance(result, Failed) and told.state in (FileState.PENDING, FileState.QUARANTINED):
            self.counters.last_error = f"{printable_name(told.entry.version.path)}: {result.reason}"

    def _doubtful(self, outcome: Outcome) -> bool:
        """Whether a failure may only mean that the inbox itself is away (unmounted, renamed)."""
        if not isinstance(outcome.result, Failed):
            return False
        entry = self._in_flight.get(outcome.file_id)
        return entry is not None and self._inbox_of(entry).doubts(entry.file_id, outcome.result.kind)

    def _believed(self, outcome: Outcome) -> Outcome:
        """Return the outcome, or another try where a file is said to be gone and is there."""
        if not isinstance(outcome.result, Failed) or outcome.result.kind is not FailureKind.GONE:
            return outcome
        entry = self._in_flight.get(outcome.file_id)
        if entry is None or not self._inbox_of(entry).still_there(entry.version.path):
            return outcome
        return replace(outcome, result=Failed(FailureKind.TRANSIENT, "was away when it was read"))

    def _enqueue(self, entries: list[Entry]) -> None:
        room = 0 if self._more_in_ledger else QUEUE_LIMIT - len(self._queue)
        self._queue.extend(entries[:room])
        if len(entries) > room:
            self._more_in_ledger = True  # oldest first: what does not fit waits its turn in the ledger

    def _schedule_retries(self) -> None:
        due_us = self.ledger.next_due_us()
        self._next_due = (
            float("inf")
            if due_us is None
            else self.clock.monotonic() + max(0.0, (due_us - self.clock.now_us()) / 1e6)
        )

    def _dispatch(self) -> None:
        """Hand queued entries to the workers; nothing is handed out while the database takes nothing."""
        if self._store_failures:
            return
        while self._queue or self._refill():
            room = self.workers.room(len(self._queue))
            if room == 0:
                return
            entries = [self._queue.popleft() for _ in range(room)]
            # What is left out here waits in the ledger until its inbox is back (`_notice_roots`).
            entries = [entry for entry in entries if entry.version.inbox_id in self._present]
            if not entries:
                continue
            self._in_flight.update((entry.file_id, entry) for entry in entries)
            self.workers.submit([self._task(entry) for entry in entries])

    def _refill(self) -> bool:
        """Fill the queue from the ledger when it may hold something due; return whether it did."""
        now = self.clock.monotonic()
        if not self._more_in_ledger and now < self._next_due:
            return False
        try:
            entries = self.ledger.due(
                QUEUE_LIMIT, self.clock.now_us(), exclude=self._in_flight.keys(), inbox_ids=self._present
            )
            self._more_in_ledger = len(entries) == QUEUE_LIMIT
            self._schedule_retries()
        except DatabaseError as error:
            self._store_failed(error)
            return False
        self._queue.extend(entries)
        return bool(entries)

    def _task(self, entry: Entry) -> Task:
        version = entry.version
        return Task(entry.file_id, self._path(entry), version.size, version.mtime_ns, version.inode)

    def _path(self, entry: Entry) -> bytes:
        return os.path.join(self._inbox_of(entry).root, entry.version.path)

    def _inbox_of(self, entry: Entry) -> WatchedInbox:
        return next(inbox for inbox in self.inboxes if inbox.inbox_id == entry.version.inbox_id)

    def _finish(self) -> None:
        """Let the workers finish what they have, store it, and leave the rest in the ledger."""
        deadline = self.clock.monotonic() + FINISH_SECONDS
        self._queue.clear()
        while self.workers.in_flight() and (left := deadline - self.clock.monotonic()) > 0:
            self.waker.wait(self.workers.waitables(), min(left, 0.2))
            self._outcomes += self.workers.collect()
        self._store_not_before = 0.0
        if self._found or self._outcomes:
            self._store()
        if self.mover is not None and not self._store_failures:
            self.mover.turn()  # what is left is moved at the next start
