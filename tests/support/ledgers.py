"""A real database in a temporary folder, a ledger on it, and a clock the test moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from storage.database import open_writer
from storage.ledger.ledger import Ledger
from storage.ledger.retry import RetryPolicy
from storage.maintenance import check_backup as maintenance
from storage.records import Entry, Failed, FailureKind, FileVersion, Judged, ModelRecord, Outcome, Status
from storage.schema import FileState
from tests.support.databases import Target, close_at_end, raw

__all__ = ["raw"]

SECOND_US = 1_000_000
MODEL = ModelRecord("ab" * 32, "brain-mri", "1", "openvino", "bf16", "cpu", ("no_tumour", "tumour"))
OTHER_MODEL = ModelRecord("cd" * 32, "brain-mri", "2", "openvino", "bf16", "cpu", ("no_tumour", "tumour"))
TUMOUR = Judged(Status.OK, "tumour", 0.97)


@dataclass
class Clock:
    """A wall clock that stands still unless it is moved."""

    now_us: int = 1_790_000_000 * SECOND_US

    def __call__(self) -> int:
        return self.now_us

    def advance(self, seconds: float) -> None:
        self.now_us += int(seconds * SECOND_US)


@dataclass
class Store:
    """One open database with the parts a daemon has."""

    path: Target
    connection: sa.Connection
    ledger: Ledger
    clock: Clock
    inbox_id: int
    model_id: int
    closed: bool = field(default=False)

    def version(self, name: bytes, folder: bytes = b"", size: int = 7_000, **changes: int) -> FileVersion:
        mtime_ns, inode = changes.get("mtime_ns", 1), changes.get("inode", 1)
        return FileVersion(self.inbox_id, folder, name, size, mtime_ns, inode)

    def add(self, *names: bytes) -> list[Entry]:
        return self.ledger.add([self.version(name) for name in names])

    def judge(self, entries: Sequence[Entry], judged: Judged = TUMOUR, sha256: bytes | None = None) -> None:
        self.ledger.record(
            [Outcome(entry.file_id, judged, sha256, 1_500) for entry in entries], self.model_id
        )

    def fail(self, entry: Entry, kind: FailureKind, reason: str = "it failed") -> None:
        self.ledger.record([Outcome(entry.file_id, Failed(kind, reason))], self.model_id)

    def due(self) -> list[Entry]:
        return self.ledger.due(1_000, self.clock.now_us)

    def is_sound(self) -> bool:
        return maintenance.check(self.path).problems == ()

    def close(self) -> None:
        if not self.closed:
            self.connection.close()
            self.closed = True


def open_store(path: Target, *, busy_seconds: float = 0.1, move_done: bool = False, **policy: float) -> Store:
    """Open (or make) a database at `path`; `policy` are fields of the RetryPolicy."""
    clock = Clock()
    connection = open_writer(path, busy_seconds=busy_seconds)
    close_at_end(connection, path)
    moving = {FileState.DONE} if move_done else ()
    ledger = Ledger(connection, clock, RetryPolicy(**policy), moving=moving)  # type: ignore[arg-type]
    return Store(path, connection, ledger, clock, ledger.inbox_id(b"/inbox"), ledger.model_id(MODEL))
