"""Inbox: find the new and complete files of a folder; events are hints, the scan is the truth.

The kernel's events make a file known within milliseconds; what they miss (a burst, a network folder,
a folder made and filled at once, a watch gone blind) the next scan finds. Both ways lead through the
same gate: only a file that is whole is handed over, and the ledger says whether it is new.
"""

from __future__ import annotations

import logging
import os
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from config.errors import DatabaseError
from config.text import printable_name
from daemon.clock import Clock
from daemon.inbox.events import Hints, kernel_queue_size
from daemon.inbox.filters import DONE_SUFFIX, Choice, InboxRules, passed_over_in_words
from daemon.inbox.health import InboxHealth
from daemon.inbox.root_identity import is_real_folder
from daemon.inbox.root_watch import GUARD_SECONDS, Change, RootWatch
from daemon.inbox.scan import FileStat, OddEntries, Scanning, Walk, look_at
from daemon.inbox.stability import Ages, Settling
from storage.records import FailureKind, FileVersion

__all__ = ["Clock", "Inbox", "InboxHealth", "InboxRules"]

# Entries looked at in one step: the reactor is back at its workers within about 20 ms.
STEP_ENTRIES = 2_000
# Files waited for at a time (some 40 MB); the folder itself remembers the rest.
WAITING_LIMIT = 100_000
# Without events a scan every 2 s, but never more than a twentieth of the time.
POLL_SECONDS = 2.0
POLL_SHARE = 20.0
# More new folders than this at a time are left to one scan of the whole.
FOLDERS_LIMIT = 1_000
# So many kinds of entries that were passed over are named.
# What may be the fault of a folder that is away, not of the file.
_DOUBTFUL = (FailureKind.GONE, FailureKind.TRANSIENT)


@dataclass(slots=True)
class Inbox:
    """One watched folder. Everything but `wake` happens on the caller's thread; `step` often."""

    root: bytes  # absolute
    inbox_id: int
    rules: InboxRules
    unknown: Callable[[Sequence[FileVersion]], list[FileVersion]]
    wake: Callable[[], None]
    clock: Clock
    log: logging.Logger

    _choice: Choice = field(init=False)
    _hints: Hints = field(init=False)
    _settling: Settling = field(init=False)
    _ages: Ages = field(init=False)
    _scan: Scanning = field(init=False, default_factory=Scanning)
    _folders: deque[Walk] = field(init=False, default_factory=deque)
    _root_watch: RootWatch = field(init=False)
    _odd: OddEntries = field(init=False)
    _by_scan_only: int = field(init=False, default=0)
    _passed: Counter[str] = field(init=False, default_factory=Counter)  # of the last scan, by why
    _passed_said: set[str] = field(init=False, default_factory=set)
    _queue_size: int = field(init=False, default_factory=kernel_queue_size)
    _database_trouble: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        rules = self.rules
        self._choice = Choice(rules, self.root)
        self._hints = Hints(self.wake)
        self._root_watch = RootWatch(self.root, rules, self._hints, self.clock, self.log)
        self._ages = Ages(self.clock, rules.settle_seconds)
        self._odd = OddEntries(self.root, self.log)
        self._settling = Settling(
            rules.settle_seconds, rules.deadline_seconds, empty_waits=not rules.once, limit=WAITING_LIMIT
        )

    def __enter__(self) -> Inbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Arm the watch, then ask for the first scan: what appears between the two is seen by both."""
        self._follow(self._root_watch.start())

    def step(self) -> list[FileVersion]:
        """Do a bounded piece of work; return the versions found complete and not known yet."""
        now = self.clock.monotonic()
        self._follow(self._root_watch.check(now))
        if self._root_watch.away:
            return []
        ready: dict[tuple[bytes, bytes], FileVersion] = {}
        try:
            for version in (*self._from_hints(now), *self._from_settling(now), *self._from_scans(now)):
                ready[version.folder, version.name] = version
                # The scan of this very turn may have taken up what an event has just completed.
                self._settling.drop((version.folder, version.name))
        except DatabaseError as error:
            self._database_failed(error, now)
        else:
            self._database_trouble = False
        return list(ready.values())

    def next_due(self) -> float:
        """Return when `step` has something to do even without a wake-up, monotonic seconds."""
        if self._root_watch.away:
            return self._root_watch.due
        if self._hints.waiting() or self._folders or self.scanning:
            return self.clock.monotonic()
        return min(self._root_watch.due, self._settling.next_look(), self._scan.due)

    def idle(self) -> bool:
        """Tell whether a whole scan has finished and nothing waits: all that is present is handed over."""
        return self._root_watch.away or (self._scan.finished is not None and not self.busy)

    @property
    def busy(self) -> bool:
        """Whether an event, a scan or a file that is not complete yet is waiting."""
        return bool(self.scanning or self._folders or self._hints.waiting() or len(self._settling))

    @property
    def scanning(self) -> bool:
        """Whether a scan of the whole is under way or due at once."""
        return self._scan.walk is not None or self._scan.wanted_again

    def root_present(self) -> bool:
        """Tell whether the folder is the one that is watched: else a missing file proves nothing."""
        return self._root_watch.is_present()

    def doubts(self, file_id: int, kind: FailureKind) -> bool:  # noqa: ARG002 - the protocol's signature
        """Tell whether a failure may only mean that the folder is away (unmounted, renamed)."""
        return kind in _DOUBTFUL and not self.root_present()

    def still_there(self, path: bytes) -> bool:
        """Tell whether a file that a worker found gone is there after all."""
        return os.path.lexists(os.path.join(self.root, path))

    def health(self) -> InboxHealth:
        """Return what has been measured so far."""
        finished = self._scan.finished
        watch = self._root_watch
        return InboxHealth(
            root=self.root,
            state=watch.state,
            why=watch.trouble or watch.polling,
            last_scan_age_seconds=None if finished is None else self.clock.monotonic() - finished,
            last_scan_seconds=self._scan.seconds,
            waiting=len(self._settling),
            found_by_scan_only=self._by_scan_only,
            events=self._hints.events,
            overflows=self._hints.overflows,
            odd_entries=self._odd.count,
            watcher_alive=watch.alive,
            passed_over=self._passed.total(),
            passed_over_kinds=passed_over_in_words(self._passed),
        )

    def close(self) -> None:
        """End the watch; the inbox can be started again."""
        self._root_watch.close()
        self._forget()

    def _from_hints(self, now: float) -> list[FileVersion]:
        if not self._hints.waiting():
            return []
        taken = self._hints.take(STEP_ENTRIES)
        real: dict[bytes, bool] = {b"": True}
        if taken.lost:
            self._scan_again()
        for path in taken.folders:
            self._walk_folder(os.path.relpath(path, self.root), real)
        complete = self._looks(taken.complete, real, certain=True)
        noticed = self._looks(taken.noticed, real, certain=False)
        looks = self._new([*complete.values(), *noticed.values()])
        ready = []
        for look in looks:
            key = (look.version.folder, look.version.name)
            # An empty file was made, not written: touch(1), or a writer that opens twice.
            if key in complete and look.version.size:
                self._settling.drop(key)
                ready.append(look.version)
            elif self._completes(look, now, announced=True):
                ready.append(look.version)
        return ready

    def _looks(
        self, paths: Iterable[bytes], real: dict[bytes, bool], *, certain: bool
    ) -> dict[tuple[bytes, bytes], FileStat]:
        """Look at the wanted ones among absolute paths; `real` caches which folders are no symlinks."""
        found: dict[tuple[bytes, bytes], FileStat] = {}
        for path in paths:
            folder, name = os.path.split(os.path.relpath(path, self.root))
            marked = self.rules.done_files and name.lower().endswith(DONE_SUFFIX)
            if marked:
                name = name[: -len(DONE_SUFFIX)]
            if not self._is_real(folder, real) or not self._choice.takes_file(folder, name):
                continue
            look = look_at(self.root, self.inbox_id, folder, name)
            if isinstance(look, str):
                if look != "folder":
                    self._odd(os.path.join(folder, name), look)
            elif look is None:
                self._settling.drop((folder, name))
            elif (certain or not marked) and self._is_released(look):
                found[folder, name] = look
        return found

    def _walk_folder(self, folder: bytes, real: dict[bytes, bool]) -> None:
        """Look into a folder that has just appeared: its files may have been faster than the watch."""
        if folder == b"." or not self.rules.recursive or not self._is_real(folder, real):
            return
        if len(self._folders) >= FOLDERS_LIMIT:
            self._scan_again()
            return
        self._folders.append(Walk(self.root, self.inbox_id, self._choice, self._odd, start=folder))

    def _is_real(self, folder: bytes, real: dict[bytes, bool]) -> bool:
        """Tell whether a relative folder is wanted and reached through no symbolic link."""
        if folder not in real:
            parent = os.path.dirname(folder)
            real[folder] = (
                not folder.startswith(b"..")
                and self._is_real(parent, real)
                and self._choice.enters_folder(folder)
                and is_real_folder(os.path.join(self.root, folder))
            )
        return real[folder]

    # Settling: what is not known to be complete ---------------------------------------------------

    def _from_settling(self, now: float) -> list[FileVersion]:
        ready: list[FileStat] = []
        unannounced: set[FileVersion] = set()
        for key in self._settling.due(now, STEP_ENTRIES):
            look = look_at(self.root, self.inbox_id, *key)
            if not isinstance(look, FileStat):
                self._settling.drop(key)
                continue
            announced = self._settling.announced(key)
            if self._settling.look(look, now, announced=announced):
                ready.append(look)
                if not announced:
                    unannounced.add(look.version)
        # A close may have announced it meanwhile: then the ledger has it by now.
        new = [look.version for look in self._new(ready)]
        self._by_scan_only += sum(version in unannounced for version in new)
        return new

    def _completes(self, look: FileStat, now: float, *, announced: bool) -> bool:
        """Take a look into account; True when the file is now known to be complete."""
        key = (look.version.folder, look.version.name)
        if (
            self._root_watch.local
            and self._ages.believable()
            and self._settling.settled_by_age(look, self._ages.now_ns())
        ):
            announced = announced or self._settling.announced(key)
            self._settling.drop(key)
            self._by_scan_only += not announced
            return True
        if self._settling.full and key not in self._settling:
            self._scan_again()
        return self._settling.look(look, now, announced=announced)

    def _is_released(self, look: FileStat) -> bool:
        """In done-file mode: whether the file's marker is there."""
        if not self.rules.done_files:
            return True
        return os.path.lexists(os.path.join(self.root, look.version.path + DONE_SUFFIX))

    # Scans: what is really there ----------------------------------------------------------------

    def _from_scans(self, now: float) -> list[FileVersion]:
        ready: list[FileVersion] = []
        while self._folders and len(ready) < STEP_ENTRIES:
            walk = self._folders[0]
            ready += self._sift(walk.piece(STEP_ENTRIES), now, expected=True)
            if not walk.finished:
                return ready
            self._folders.popleft()
        self._begin_scan(now)
        walk_all = self._scan.walk
        if walk_all is not None:
            # Before the first scan nothing could have been announced; while polling nothing ever is.
            expected = self._scan.finished is None or not self._root_watch.announces
            ready += self._sift(walk_all.piece(STEP_ENTRIES), now, expected=expected)
            if walk_all.finished:
                self._end_scan()
        return ready

    def _sift(self, looks: list[FileStat], now: float, *, expected: bool) -> list[FileVersion]:
        new = [look for look in self._new(looks) if self._is_released(look)]
        return [look.version for look in new if self._completes(look, now, announced=expected)]

    def _new(self, looks: list[FileStat]) -> list[FileStat]:
        """Return the looks at versions the ledger does not know."""
        if not looks:
            return []
        unknown = self.unknown([look.version for look in looks])
        if not unknown:
            return []
        if len(unknown) == len(looks):
            return looks
        wanted = set(unknown)
        return [look for look in looks if look.version in wanted]

    def _begin_scan(self, now: float) -> None:
        scan = self._scan
        # watchdog 6.0 hides an overflow; so many events at once mean there may have been one.
        quiet = self._hints.events - scan.events_at_start < self._queue_size // 2
        if scan.walk is not None or (now < scan.due and not scan.wanted_again and quiet):
            return
        if scan.finished is not None and now < scan.finished + min(GUARD_SECONDS, self.rules.rescan_seconds):
            scan.due = min(scan.due, scan.finished + GUARD_SECONDS)
            scan.wanted_again = False
            return
        scan.wanted_again, scan.events_at_start = False, self._hints.events
        scan.started = self.clock.monotonic()
        scan.walk = Walk(self.root, self.inbox_id, self._choice, self._odd, recursive=self.rules.recursive)

    def _end_scan(self) -> None:
        scan, now = self._scan, self.clock.monotonic()
        if self.rules.once and scan.walk is not None and scan.walk.vanished:
            scan.walk, scan.wanted_again = None, True  # the only scan must have seen all
            return
        if scan.walk is not None:
            self._tell_passed_over(scan.walk.passed_over)
        scan.walk, scan.finished, scan.seconds = None, now, now - scan.started
        pause = self.rules.rescan_seconds
        if self._root_watch.polling and not self.rules.once:
            pause = min(pause, max(POLL_SECONDS, POLL_SHARE * scan.seconds))
        scan.due = now + pause * random.uniform(0.9, 1.1)  # noqa: S311  several inboxes, not all at once
        self._follow(self._root_watch.scanned())

    def _tell_passed_over(self, found: Counter[str]) -> None:
        """Say it of each kind once: a wish for --include must not wait for somebody to miss an image."""
        self._passed = found
        if found.keys() <= self._passed_said:
            return
        self._passed_said |= found.keys()
        self.log.info(
            "%s: %d passed over (%s); --include GLOB takes files by name, see watch --help",
            self._shown, found.total(), passed_over_in_words(found),
        )  # fmt: skip

    def _scan_again(self) -> None:
        self._scan.wanted_again = True

    # The root --------------------------------------------------------------------------------

    def _follow(self, change: Change) -> None:
        """Do what a change of the root asks for."""
        if change in (Change.LOST, Change.REPLACED):
            self._forget()
        if change in (Change.REPLACED, Change.REARMED):
            self._scan.walk, self._scan.finished = None, None
        if change in (Change.REPLACED, Change.REARMED, Change.UNSEEN):
            self._scan_again()

    def _forget(self) -> None:
        self._hints.clear()
        self._settling.clear()
        self._folders.clear()
        self._scan.walk = None

    @property
    def _shown(self) -> str:
        return printable_name(self.root)

    def _database_failed(self, error: DatabaseError, now: float) -> None:
        """Leave what was found in the folder: a scan finds it again when the database answers."""
        if not error.transient:
            raise error
        if not self._database_trouble:
            self.log.warning("%s; %s is scanned again when it answers", error.what, self._shown)
        self._database_trouble = True
        self._folders.clear()
        self._scan.walk, self._scan.wanted_again = None, False
        self._scan.due = now + GUARD_SECONDS
        self._scan.finished = None
