"""The inbox of an object store: the listing is the truth, notifications are hints, nothing is ever written.

An object is whole as soon as it can be seen, so nothing settles here. A store that cannot be reached is an
inbox that is away: what is queued stays queued, and a thread asks for it, ever more seldom, until it answers.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from config.errors import DatabaseError
from config.store_url import StoreUrl
from config.text import printable_name
from daemon.clock import Clock
from daemon.inbox.filters import Choice, InboxRules, passed_over_in_words, why_passed_over
from daemon.inbox.health import InboxHealth
from daemon.store.object_identity import ListedObject
from daemon.store.object_listing import ObjectListing, probe
from daemon.store.sqs_queue import Arrival, SqsQueue
from daemon.store.store_errors import StoreTrouble
from storage.records import FailureKind, FileVersion

# Pages taken in one step: each costs the ledger some milliseconds.
_PAGES_A_STEP = 2
_MESSAGES_A_STEP = 100
# A store that is away is asked again after so long, at last every minute.
_PROBE_SECONDS = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)
_DATABASE_SECONDS = 5.0
# Keys whose newest look is remembered, so that an older page of the listing does not undo it.
_RECENT_LIMIT = 100_000
_BELIEVED_LIMIT = 10_000
# A message whose versions the ledger does not hold after so long is left to come again.
_CONFIRM_SECONDS = 60.0
_CONFIRM_EVERY_SECONDS = 0.2


@dataclass(slots=True)
class _Away:
    """A store that is suspected or known not to answer."""

    why: str
    confirmed: bool  # whether the store itself was asked; else one object could not be read
    due: float  # monotonic time of the next question
    asked: int = 0
    probe: threading.Thread | None = None
    answer: list[StoreTrouble | None] = field(default_factory=list)
    suspects: set[int] = field(default_factory=set)  # files that could not be read


@dataclass(slots=True)
class StoreInbox:
    """One watched bucket or prefix. Everything but `wake` happens on the caller's thread; `step` often."""

    url: StoreUrl
    inbox_id: int
    rules: InboxRules
    unknown: Callable[[Sequence[FileVersion]], list[FileVersion]]
    wake: Callable[[], None]
    clock: Clock
    log: logging.Logger
    open_events: Callable[[], SqsQueue] | None = None
    root: bytes = field(init=False)

    _choice: Choice = field(init=False)
    _folders: dict[bytes, bool] = field(init=False, default_factory=dict)  # which are looked into
    _listing: ObjectListing | None = field(init=False, default=None)
    _events: SqsQueue | None = field(init=False, default=None)
    _unconfirmed: deque[tuple[str, list[FileVersion], float]] = field(init=False, default_factory=deque)
    _away: _Away | None = field(init=False, default=None)
    _believed: set[int] = field(init=False, default_factory=set)
    _recent: dict[str, tuple[int, float]] = field(init=False, default_factory=dict)
    _due: float = field(init=False, default=0.0)
    _started: float = field(init=False, default=0.0)
    _finished: float | None = field(init=False, default=None)
    _seconds: float | None = field(init=False, default=None)
    _passed: Counter[str] = field(init=False, default_factory=Counter)
    _passed_now: Counter[str] = field(init=False, default_factory=Counter)
    _passed_said: set[str] = field(init=False, default_factory=set)
    _by_listing_only: int = field(init=False, default=0)
    _database_trouble: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.root = str(self.url).encode()
        self._choice = Choice(self.rules, self.root)

    def __enter__(self) -> StoreInbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Ask for notifications, then for the first listing: what appears between the two is seen by both."""
        if self.open_events is not None:
            self._events = self.open_events()
        self._due = self.clock.monotonic()

    def step(self) -> list[FileVersion]:
        """Do a bounded piece of work; return the versions found and not known yet."""
        now = self.clock.monotonic()
        self._ask_whether_it_is_back(now)
        if self._away is not None:
            return []
        ready: dict[tuple[bytes, bytes], FileVersion] = {}
        try:
            self._confirm(now)
            for version in (*self._from_events(now), *self._from_listing(now)):
                ready[version.folder, version.name] = version
        except DatabaseError as error:
            self._database_failed(error, now)
        else:
            self._database_trouble = False
        return list(ready.values())

    def next_due(self) -> float:
        """Return when `step` has something to do even without a wake-up, monotonic seconds."""
        if self._away is not None:
            return float("inf") if self._away.probe is not None else self._away.due
        now = self.clock.monotonic()
        if self._events is not None and self._events.waiting():
            return now
        if self._unconfirmed:
            return min(now + _CONFIRM_EVERY_SECONDS, self._due)
        if self._listing is not None:
            return now if self._listing.ready else float("inf")  # a page wakes
        return self._due

    def idle(self) -> bool:
        """Tell whether a whole listing has been taken in and nothing waits."""
        waiting = self._events is not None and self._events.waiting()
        return self._finished is not None and self._listing is None and not waiting

    def root_present(self) -> bool:
        """Tell whether the store answered when it was last asked."""
        return self._away is None

    def doubts(self, file_id: int, kind: FailureKind) -> bool:
        """Tell whether a failure may be the store's: the first of a file is, until the store was asked.

        An object that cannot be read although the store answers is believed the next time.
        """
        if kind is not FailureKind.TRANSIENT:
            return False
        if self._away is None:
            if file_id in self._believed:
                return False
            self._away = _Away("an object cannot be read", confirmed=False, due=self.clock.monotonic())
        self._away.suspects.add(file_id)
        return True

    def still_there(self, path: bytes) -> bool:  # noqa: ARG002 - the protocol's signature
        """Return False: a store that says so knows."""
        return False

    def health(self) -> InboxHealth:
        """Return what has been measured so far."""
        events = self._events
        state, why = self._state()
        return InboxHealth(
            root=self.root,
            state=state,
            why=why,
            last_scan_age_seconds=None if self._finished is None else self.clock.monotonic() - self._finished,
            last_scan_seconds=self._seconds,
            waiting=0,
            found_by_scan_only=self._by_listing_only,
            events=0 if events is None else events.messages,
            overflows=0,
            odd_entries=0,
            watcher_alive=events is None or events.alive,
            passed_over=self._passed.total(),
            passed_over_kinds=passed_over_in_words(self._passed),
        )

    def close(self) -> None:
        """End the threads."""
        if self._listing is not None:
            self._listing.close()
            self._listing = None
        if self._events is not None:
            self._events.close()
            self._events = None
        self._unconfirmed.clear()

    def _state(self) -> tuple[str, str]:
        if self._away is not None and self._away.confirmed:
            return "degraded", f"the object store {self._away.why}"
        if self._events is None:
            return "polling", f"an object store, listed every {_span(self.rules.rescan_seconds)}"
        if self._events.trouble:
            return "polling", f"notifications do not come: {self._events.trouble}"
        return "watching", ""

    # Notifications: hints -----------------------------------------------------------------------

    def _from_events(self, now: float) -> list[FileVersion]:
        if self._events is None:
            return []
        taken = self._events.take(_MESSAGES_A_STEP)
        found = {arrival.receipt: self._of(arrival, now) for arrival in taken}
        self._unconfirmed.extend((receipt, versions, now) for receipt, versions in found.items())
        return self._new([version for versions in found.values() for version in versions], now)

    def _of(self, arrival: Arrival, now: float) -> list[FileVersion]:
        return [
            self._version(one)
            for one in arrival.objects
            if self._takes(one, Counter()) and self._recent.get(one.key, (0, now))[0] <= one.identity.mtime_ns
        ]

    def _confirm(self, now: float) -> None:
        """Have those messages deleted whose versions the ledger holds, as the turns before this left it."""
        for _ in range(len(self._unconfirmed)):
            receipt, versions, since = self._unconfirmed.popleft()
            if not versions or not self.unknown(versions):
                if self._events is not None:
                    self._events.confirm(receipt)
            elif now - since < _CONFIRM_SECONDS:
                self._unconfirmed.append((receipt, versions, since))
            # Else it comes again: its version was superseded meanwhile, or the database took nothing.

    # Listings: what is really there -------------------------------------------------------------

    def _from_listing(self, now: float) -> list[FileVersion]:
        if self._listing is None:
            if now < self._due:
                return []
            self._started, self._passed_now = now, Counter()
            self._listing = ObjectListing(self.url, self.wake)
        found: list[FileVersion] = []
        for _ in range(_PAGES_A_STEP):
            looks = [one for one in self._listing.page() if self._takes(one, self._passed_now)]
            # Of what was looked at since this listing began, a page may know less.
            found += [self._version(one) for one in looks if not self._is_newer(one)]
        new = self._new(found, now)
        expected = self._finished is None or self._events is None
        self._by_listing_only += 0 if expected else len(new)
        if self._listing.finished:
            self._end_listing(self._listing, now)
        return new

    def _end_listing(self, listing: ObjectListing, now: float) -> None:
        self._listing = None
        if listing.trouble is not None:
            self._went_away(listing.trouble.words, now)
            return
        self._passed_now.update(listing.odd)
        self._tell_passed_over(self._passed_now)
        self._finished, self._seconds = now, now - self._started
        self._due = now + self.rules.rescan_seconds * random.uniform(0.9, 1.1)  # noqa: S311

    def _is_newer(self, one: ListedObject) -> bool:
        changed, seen = self._recent.get(one.key, (0, float("-inf")))
        return seen >= self._started and changed >= one.identity.mtime_ns

    def _takes(self, one: ListedObject, passed: Counter[str]) -> bool:
        folder, _, name = one.key.encode().rpartition(b"/")
        if not one.identity.size:  # most are the marks of folders
            passed["empty"] += 1
            return False
        if not self._enters(folder):
            return False
        if self._choice.takes_file(folder, name):
            return True
        if why := why_passed_over(name):
            passed[why] += 1
        return False

    def _enters(self, folder: bytes) -> bool:
        """Tell whether what lies below a folder, and all that it lies in, is wanted."""
        if not folder:
            return True
        if not self.rules.recursive:
            return False
        if folder not in self._folders:
            if len(self._folders) >= _BELIEVED_LIMIT:
                self._folders.clear()
            parent = folder.rpartition(b"/")[0]
            self._folders[folder] = self._enters(parent) and self._choice.enters_folder(folder)
        return self._folders[folder]

    def _version(self, one: ListedObject) -> FileVersion:
        folder, _, name = one.key.encode().rpartition(b"/")
        return FileVersion(self.inbox_id, folder, name, *one.identity)

    def _new(self, versions: list[FileVersion], now: float) -> list[FileVersion]:
        new = self.unknown(versions) if versions else []
        if len(self._recent) > _RECENT_LIMIT:
            self._recent.clear()
        if self._events is not None:
            self._recent.update((version.path.decode(), (version.mtime_ns, now)) for version in new)
        return new

    def _tell_passed_over(self, found: Counter[str]) -> None:
        self._passed = found
        if found.keys() <= self._passed_said:
            return
        self._passed_said |= found.keys()
        self.log.info(
            "%s: %d passed over (%s); --include GLOB takes objects by name, see watch --help",
            self._shown, found.total(), passed_over_in_words(found),
        )  # fmt: skip

    # The store itself ---------------------------------------------------------------------------

    def _went_away(self, why: str, now: float) -> None:
        self.log.warning("%s: the object store %s; it is asked again, nothing is lost", self._shown, why)
        self._away = _Away(why, confirmed=True, due=now + _PROBE_SECONDS[0])
        self._believed.clear()

    def _ask_whether_it_is_back(self, now: float) -> None:
        away = self._away
        if away is None:
            return
        if away.probe is None:
            if now >= away.due:
                away.probe = threading.Thread(
                    target=self._ask, args=(away.answer,), name="store-probe", daemon=True
                )
                away.probe.start()
            return
        if not away.answer:
            return
        away.probe.join()
        away.probe, trouble = None, away.answer.pop()
        if trouble is None:
            self._came_back(away, now)
            return
        if not away.confirmed:
            self.log.warning(
                "%s: the object store %s; it is asked again, nothing is lost", self._shown, trouble.words
            )
            away.suspects.clear()
            self._believed.clear()
        away.why, away.confirmed = trouble.words, True
        away.due = now + _PROBE_SECONDS[min(away.asked, len(_PROBE_SECONDS) - 1)]
        away.asked += 1

    def _came_back(self, away: _Away, now: float) -> None:
        self._away = None
        if away.confirmed:
            self.log.info("%s: the object store answers again", self._shown)
            self._due = now  # what was announced meanwhile may be lost
            return
        if len(self._believed) > _BELIEVED_LIMIT:
            self._believed.clear()
        self._believed |= away.suspects

    def _ask(self, answer: list[StoreTrouble | None]) -> None:
        answer.append(probe(self.url))
        self.wake()

    @property
    def _shown(self) -> str:
        return printable_name(self.root)

    def _database_failed(self, error: DatabaseError, now: float) -> None:
        """Leave what was found in the store: a listing finds it again when the database answers."""
        if not error.transient:
            raise error
        if not self._database_trouble:
            self.log.warning("%s; %s is listed again when it answers", error.what, self._shown)
        self._database_trouble = True
        if self._listing is not None:
            self._listing.close()
            self._listing = None
        self._due, self._finished = now + _DATABASE_SECONDS, None


def _span(seconds: float) -> str:
    if seconds % 3600 == 0:
        return f"{seconds / 3600:g} h"
    return f"{seconds / 60:g} min" if seconds % 60 == 0 else f"{seconds:g} s"
