"""Leases: which images were handed to whom lately, so that two reviewers are not asked about the same one.

They save people work, nothing rests on them: an image that two people answered all the same has two reviews.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

LEASE_SECONDS = 300.0
_MOST = 10_000


class Leases:
    """Who holds which image for how long, in bounded memory; may be asked from any thread."""

    def __init__(
        self, seconds: float = LEASE_SECONDS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._held: OrderedDict[int, tuple[str, float]] = OrderedDict()  # file -> reviewer, until when
        # Held by whoever looks for images and takes them: in between, nobody else takes the same.
        self.lock = threading.RLock()

    def of_others(self, reviewer: str) -> frozenset[int]:
        """Return the images that others hold."""
        with self.lock:
            now = self._monotonic()
            for file_id in [one for one, (_, until) in self._held.items() if until <= now]:
                del self._held[file_id]
            return frozenset(one for one, (holder, _) in self._held.items() if holder != reviewer)

    def take(self, reviewer: str, file_ids: Iterable[int]) -> None:
        """Lease images to a reviewer from now on; the oldest leases go where there are too many."""
        with self.lock:
            until = self._monotonic() + self._seconds
            for file_id in file_ids:
                self._held[file_id] = (reviewer, until)
                self._held.move_to_end(file_id)
            while len(self._held) > _MOST:
                self._held.popitem(last=False)

    def end(self, file_id: int) -> None:
        """End an image's lease: it is answered."""
        with self.lock:
            self._held.pop(file_id, None)
