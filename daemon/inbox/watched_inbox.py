"""The inbox protocol: what the daemon's loop asks of a folder or an object store that it watches."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from daemon.inbox.health import InboxHealth
from storage.records import FailureKind, FileVersion


class WatchedInbox(Protocol):
    """A place where images appear. All is called on the daemon's one thread; nothing blocks."""

    @property
    def root(self) -> bytes:
        """The folder, absolute, or the address of the store: what stands before every path."""

    @property
    def inbox_id(self) -> int:
        """Its number in the ledger."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def start(self) -> None:
        """Begin to watch, and ask for the first scan."""

    def step(self) -> list[FileVersion]:
        """Do a bounded piece of work; return the versions found complete and not known yet."""

    def next_due(self) -> float:
        """Return when `step` has something to do even without a wake-up, monotonic seconds."""

    def idle(self) -> bool:
        """Tell whether a whole scan has finished and nothing waits."""

    def root_present(self) -> bool:
        """Tell whether the place is there: else a missing file proves nothing."""

    def doubts(self, file_id: int, kind: FailureKind) -> bool:
        """Tell whether a failure may be the place's, not the file's: then it is tried again, uncounted."""

    def still_there(self, path: bytes) -> bool:
        """Tell whether a file that a worker found gone (path below the root) is there after all."""

    def health(self) -> InboxHealth:
        """Return what has been measured so far."""

    def close(self) -> None:
        """End the watch."""
