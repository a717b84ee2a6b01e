"""Watch an inbox's root: armed on the folder that is there, armed anew when it was lost or replaced.

Where the kernel announces nothing (network file systems, no watches left, no inotify) it says so, and the
inbox scans again and again instead. What is to be done about a change is the inbox's business: `check` tells.
"""

from __future__ import annotations

import errno
import logging
import os
from enum import Enum, auto

from config.filesystem import filesystem_of, is_network_filesystem
from config.text import printable_name
from daemon.clock import Clock
from daemon.inbox.events import Hints, Watch, watches_exhausted
from daemon.inbox.filters import InboxRules
from daemon.inbox.root_identity import RootIdentity, identify, is_held, is_unmounted

# How often the root and the watch's threads are checked: as long may a replaced root go unnoticed.
GUARD_SECONDS = 1.0
# While the kernel grants no watch, it is asked again this often: other programs end, limits are raised.
ASK_AGAIN_SECONDS = 300.0
_NO_WATCHES = "the kernel has no more file watches (raise fs.inotify.max_user_watches{})"


class Change(Enum):
    """What a check found, and so what the inbox must do."""

    NONE = auto()
    LOST = auto()  # the root is away: forget what waits, conclude nothing
    REPLACED = auto()  # another root is watched: forget what waits, scan it as if for the first time
    REARMED = auto()  # the same root is watched anew: scan it as if for the first time
    UNSEEN = auto()  # nothing announced what came in a gap: scan again


class RootWatch:
    """The watch on one root and its state; everything happens on the caller's thread."""

    def __init__(
        self, root: bytes, rules: InboxRules, hints: Hints, clock: Clock, log: logging.Logger
    ) -> None:
        """Take the root, absolute; nothing is watched before `start`."""
        self.away = False
        self.local = True  # not on a network file system
        self.trouble = ""  # why degraded
        self.polling = ""  # why polling
        self._root = root
        self._rules = rules
        self._hints = hints
        self._clock = clock
        self._log = log
        self._watch: Watch | None = None
        self._held: RootIdentity | None = None  # the root that is watched
        self._ask_again = float("inf")  # when a watch is tried again
        self.due = 0.0  # when `check` has something to do, monotonic seconds

    @property
    def announces(self) -> bool:
        """Whether what appears now is announced: a watch is armed and nothing was missed."""
        return self._watch is not None and not self.trouble

    @property
    def alive(self) -> bool:
        """Whether there is a watch whose threads live."""
        return self._watch is not None and self._watch.alive

    @property
    def state(self) -> str:
        """The state in one word: degraded, polling or watching."""
        return "degraded" if self.trouble else "polling" if self.polling else "watching"

    def start(self) -> Change:
        """Arm the watch; call before the first scan, so that both see what appears between the two."""
        self.due = self._clock.monotonic() + GUARD_SECONDS
        found = identify(self._root)
        if found is None:
            return self._lose("the folder is not there")
        return self._take(found)

    def check(self, now: float) -> Change:
        """Check, when it is due, that root and threads are those that are watched."""
        if now < self.due:
            return Change.NONE
        self.due = now + GUARD_SECONDS
        found = identify(self._root)
        if found is None:
            return self._lose("the folder is not there (deleted, renamed or not mounted)")
        if self._held is not None and is_unmounted(self._root, self._held, found):
            return self._lose("nothing is mounted there any more")
        return self._check_present(found, now)

    def is_present(self) -> bool:
        """Tell whether the folder is the one that is watched: else a missing file proves nothing."""
        return not self.away and self._held is not None and is_held(self._root, self._held)

    def scanned(self) -> Change:
        """Take note that a scan of the whole has ended: nothing that was missed is missing any more."""
        if self.trouble:
            self._log.info("%s is watched again; nothing was lost", self._shown)
            self.trouble = ""
        if self._watch is not None and watches_exhausted(self._root):
            self.close()
            return self._poll_for_now(_NO_WATCHES.format(""))
        return Change.NONE

    def close(self) -> None:
        """End the watch; it can be started again."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _check_present(self, found: RootIdentity, now: float) -> Change:
        if self.away or found != self._held:
            self._lose("the folder was replaced by another")
            self._take(found)
            return Change.REPLACED
        if self._watch is not None and not self._watch.alive:
            self.trouble = "the file watcher had ended and was started again"
            self._log.warning("the file watcher of %s has ended; it is started again", self._shown)
            self.close()
            return self._take(found)
        if self._watch is None and now >= self._ask_again:
            return self._try_again()
        return Change.NONE

    def _take(self, found: RootIdentity) -> Change:
        """Watch the folder that is there now."""
        self._held, self.away = found, False
        name = filesystem_of(os.fsdecode(self._root))
        self.local = not is_network_filesystem(name)
        if self._rules.once:
            self.polling = "one pass only"
        elif self._rules.poll:
            self._poll("asked for")
        elif not self.local:
            self._poll(f"{name} is a network file system, which announces nothing")
        else:
            self._arm()
        return Change.REARMED

    def _lose(self, why: str) -> Change:
        """Let go of a root that is away: nothing is concluded from files that cannot be seen."""
        if not self.away:
            self._log.warning("%s: %s; waiting for it, nothing is forgotten", self._shown, why)
            self.close()
        self.away, self.trouble = True, why
        return Change.LOST

    def _arm(self) -> None:
        try:
            self._watch = Watch(self._root, self._hints, recursive=self._rules.recursive)
            self.polling = ""
        except ImportError:
            self._poll("this platform has no inotify")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EMFILE):
                self._poll_for_now(_NO_WATCHES.format("/_instances"))
            else:
                self._poll_for_now(f"the watch failed ({error.strerror})")

    def _try_again(self) -> Change:
        """Ask the kernel for the watch that it refused; what came meanwhile the next scan finds."""
        self._ask_again = float("inf")
        self._arm()
        if self._watch is not None:
            self._log.info("%s is watched again instead of scanned", self._shown)
        return Change.UNSEEN

    def _poll_for_now(self, why: str) -> Change:
        self._poll(why)
        self._ask_again = self._clock.monotonic() + ASK_AGAIN_SECONDS
        return Change.UNSEEN  # what came since the watch was lost nobody has announced

    def _poll(self, why: str) -> None:
        if self.polling != why:
            level = logging.INFO if self._rules.poll else logging.WARNING
            self._log.log(level, "%s is scanned again and again instead of watched: %s", self._shown, why)
        self.polling = why

    @property
    def _shown(self) -> str:
        return printable_name(self._root)
