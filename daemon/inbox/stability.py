"""Detect when a file is completely written: two looks at it, a settle time apart, that agree.

Nobody announced these files as whole (a close after writing or a rename does); they were found by a
scan, or only their creation was noticed. Some copying tools set an old mtime while they still write, so
mtime proves nothing about age. ctime does: the kernel alone sets it, at every write and every utime(),
so a file whose ctime lies a settle time back has verifiably not changed for that long. The kernel made
the first look for us. That lets a backlog start at once, and is not believed where another machine's
clock stamps the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from daemon.clock import Clock
from daemon.inbox.scan import FileStat

# A jump of the wall clock by more than this makes ages read from ctime void for a settle time.
_CLOCK_JUMP_SECONDS = 0.5


class Ages:
    """Whether ctimes may be compared with the wall clock: not just after that clock was set."""

    def __init__(self, clock: Clock, settle_seconds: float) -> None:
        self._clock = clock
        self._settle = settle_seconds
        self._offset = self._wall_offset()
        self._from = float("-inf")

    def believable(self) -> bool:
        """Tell whether a ctime a settle time back means a quiet file."""
        now, offset = self._clock.monotonic(), self._wall_offset()
        if abs(offset - self._offset) > _CLOCK_JUMP_SECONDS:
            # Whoever wrote before the jump looks old; by then he has written again, or was done.
            self._from = now + self._settle
            self._offset = offset
        return now >= self._from

    def now_ns(self) -> int:
        """Return the wall clock in nanoseconds, as the kernel stamps ctimes with it."""
        return self._clock.now_us() * 1000

    def _wall_offset(self) -> float:
        return self._clock.now_us() / 1e6 - self._clock.monotonic()


@dataclass(slots=True)
class Waiting:
    """One file that is not known to be complete."""

    fingerprint: tuple[int, ...]
    look_again: float  # monotonic seconds
    deadline: float  # monotonic seconds
    announced: bool  # whether an event ever named it


class Settling:
    """The files that are being waited for, by (folder, name), soonest look first."""

    def __init__(
        self, settle_seconds: float, deadline_seconds: float, *, empty_waits: bool, limit: int
    ) -> None:
        self._settle = settle_seconds
        self._deadline = deadline_seconds
        self._empty_waits = empty_waits
        self._limit = limit
        # Every look puts its file at the end, and all wait equally long: the order is that of the looks.
        self._files: dict[tuple[bytes, bytes], Waiting] = {}

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, key: tuple[bytes, bytes]) -> bool:
        return key in self._files

    def next_look(self) -> float:
        """Return when the next look is due, monotonic seconds; inf if nothing waits."""
        first = next(iter(self._files.values()), None)
        return float("inf") if first is None else first.look_again

    def due(self, now: float, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the (folder, name) of at most `limit` files whose next look is due."""
        return list(islice(self._due(now), limit))

    def settled_by_age(self, look: FileStat, now_ns: int) -> bool:
        """Tell whether the file's own ctime shows that it has been quiet long enough."""
        needed = self._settle if look.version.size or not self._empty_waits else self._deadline
        quiet_ns = now_ns - max(look.ctime_ns, look.version.mtime_ns)
        return quiet_ns > needed * 1e9

    def look(self, look: FileStat, now: float, *, announced: bool) -> bool:
        """Take one more look into account; True when the file is complete (or its deadline is over)."""
        key = (look.version.folder, look.version.name)
        held = self._files.get(key)
        if held is None:
            return self._first_look(key, look, now, announced=announced)
        held.announced = held.announced or announced
        same = held.fingerprint == look.fingerprint
        if now >= held.deadline or (same and now >= held.look_again and not self._must_wait(look)):
            del self._files[key]
            return True
        if not same or now >= held.look_again:
            held.fingerprint, held.look_again = look.fingerprint, now + self._settle
            self._files[key] = self._files.pop(key)
        return False

    def announced(self, key: tuple[bytes, bytes]) -> bool:
        """Tell whether an event has named this waiting file."""
        held = self._files.get(key)
        return held is not None and held.announced

    def drop(self, key: tuple[bytes, bytes]) -> None:
        """Forget a file: it is complete by other evidence, or gone."""
        self._files.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._files.clear()

    @property
    def full(self) -> bool:
        """Whether no further file is taken up; a later scan finds it again."""
        return len(self._files) >= self._limit

    def _first_look(self, key: tuple[bytes, bytes], look: FileStat, now: float, *, announced: bool) -> bool:
        if not self.full:
            self._files[key] = Waiting(look.fingerprint, now + self._settle, now + self._deadline, announced)
        return False

    def _must_wait(self, look: FileStat) -> bool:
        return look.version.size == 0 and self._empty_waits

    def _due(self, now: float) -> Iterator[tuple[bytes, bytes]]:
        for key, held in self._files.items():
            if held.look_again > now:
                return
            yield key
