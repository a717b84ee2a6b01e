"""File-system events as hints, collected by watchdog's threads for the daemon's one thread.

Nothing here is believed to be complete. What is hidden or lost (watchdog 6.0 says nothing of an
overflow, 7.1 only logs it) is noticed where it can be, and the inbox scans.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver

# Paths kept for the reactor; beyond this they are dropped and a scan is asked for (about 40 MB).
HINT_LIMIT = 200_000
# A kernel queue that overflows has held this many events; this much of it arriving since the last scan
# is reason to look for what a silent overflow may have swallowed.
_QUEUE_SIZE = Path("/proc/sys/fs/inotify/max_queued_events")
_USUAL_QUEUE_SIZE = 16_384


@dataclass(frozen=True, slots=True)
class Taken:
    """Hints taken out for one turn: absolute paths."""

    complete: list[bytes]  # closed after writing, or renamed to this name
    noticed: list[bytes]  # created: a writer may still be at it
    folders: list[bytes]  # new or moved folders
    lost: bool  # events were lost: only a scan tells


class Hints:
    """Paths that events named: watchdog's threads add, the reactor takes. Bounded; never raises."""

    def __init__(self, wake: Callable[[], None], limit: int = HINT_LIMIT) -> None:
        self._wake = wake
        self._limit = limit
        self._lock = threading.Lock()
        self._complete: dict[bytes, None] = {}  # dicts, because they keep the order of arrival
        self._noticed: dict[bytes, None] = {}
        self._folders: dict[bytes, None] = {}
        self._lost = False
        self.events = 0
        self.overflows = 0

    def dispatch(self, event: FileSystemEvent) -> None:
        """Take an event from watchdog, whose observer would end with any exception raised here."""
        try:
            self._note(event)
        except Exception:  # noqa: BLE001  a hint lost costs a scan, an observer lost costs all hints
            self._lost = True
        self._wake()

    def overflow(self) -> None:
        """Take note that the kernel dropped events."""
        with self._lock:
            self._lost = True
            self.overflows += 1
        self._wake()

    def waiting(self) -> bool:
        """Tell whether there is anything to take."""
        return bool(self._complete or self._noticed or self._folders or self._lost)

    def take(self, limit: int) -> Taken:
        """Take out at most `limit` paths of each kind, the oldest first."""
        with self._lock:
            taken = Taken(
                _shift(self._complete, limit),
                _shift(self._noticed, limit),
                _shift(self._folders, limit),
                self._lost,
            )
            self._lost = False
        return taken

    def clear(self) -> None:
        """Drop all hints: they concern a folder that is no longer there."""
        with self._lock:
            self._complete.clear()
            self._noticed.clear()
            self._folders.clear()
            self._lost = False

    def _note(self, event: FileSystemEvent) -> None:
        moved = event.event_type == "moved"
        path = os.fsencode(event.dest_path if moved else event.src_path)
        with self._lock:
            self.events += 1
            if not path:  # moved out
                return
            if len(self._complete) + len(self._noticed) + len(self._folders) >= self._limit:
                self._lost = True
            elif event.is_directory:
                self._folders[path] = None
            elif moved or event.event_type == "closed":
                self._noticed.pop(path, None)
                self._complete[path] = None
            else:
                self._noticed[path] = None


_EVENTS = ("DirCreatedEvent", "DirMovedEvent", "FileClosedEvent", "FileCreatedEvent", "FileMovedEvent")


class Watch:
    """watchdog's threads on one folder, from arming to `close`."""

    def __init__(self, root: bytes, hints: Hints, *, recursive: bool) -> None:
        """Arm the watch; OSError when the kernel grants none (ENOSPC, EMFILE) or the folder is away."""
        from watchdog import events
        from watchdog.observers.inotify import InotifyObserver

        class Handler(events.FileSystemEventHandler):
            def dispatch(self, event: FileSystemEvent) -> None:
                hints.dispatch(event)

        # watchdog 7.1 warns of a harmless race in freshly nested folders, naming every folder it watches.
        warnings.filterwarnings("ignore", message="Callback with id ", category=RuntimeWarning)
        self._listener = _Listener(hints)
        before = set(threading.enumerate())
        # "Full" events tell a rename from outside (complete) from a creation (perhaps not).
        observer: Any = InotifyObserver(generate_full_events=True)
        try:
            # The filter becomes the kernel's mask, so our own opens and reads raise no events.
            observer.schedule(
                Handler(),
                root,
                recursive=recursive,
                event_filter=[getattr(events, name) for name in _EVENTS],
            )
            observer.start()
        except BaseException:
            observer.stop()
            raise
        self._observer = cast("BaseObserver", observer)
        self._threads = [thread for thread in threading.enumerate() if thread not in before]
        logging.getLogger("watchdog").addHandler(self._listener)

    @property
    def alive(self) -> bool:
        """Whether every thread that was started for this watch still runs."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def threads(self) -> list[threading.Thread]:
        """The threads this watch lives by."""
        return list(self._threads)

    def close(self) -> None:
        """End the threads and give the kernel's watches back."""
        logging.getLogger("watchdog").removeHandler(self._listener)
        self._observer.stop()
        for thread in self._threads:
            thread.join(timeout=2.0)


class _Listener(logging.Handler):
    """Hears watchdog say that the kernel's queue has overflowed: its only sign of it (7.1)."""

    def __init__(self, hints: Hints) -> None:
        super().__init__(logging.WARNING)
        self._hints = hints

    def emit(self, record: logging.LogRecord) -> None:
        if "events were lost" in str(record.msg):
            self._hints.overflow()


def watches_exhausted(root: bytes) -> bool:
    """Tell whether the kernel would refuse one more watch: then subfolders may go unwatched, unsaid."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        return False
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0:
        return False  # no instance left for this question; the watch itself has one
    try:
        refused = libc.inotify_add_watch(descriptor, root, 0x400) < 0  # IN_DELETE_SELF
        return refused and ctypes.get_errno() == errno.ENOSPC
    finally:
        os.close(descriptor)


def kernel_queue_size() -> int:
    """Return how many events the kernel keeps for one watcher before it drops them."""
    try:
        return int(_QUEUE_SIZE.read_text())
    except (OSError, ValueError):
        return _USUAL_QUEUE_SIZE


def _shift(paths: dict[bytes, None], limit: int) -> list[bytes]:
    if len(paths) <= limit:
        taken = list(paths)
        paths.clear()
        return taken
    taken = list(islice(paths, limit))
    for path in taken:
        del paths[path]
    return taken
