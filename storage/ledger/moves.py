"""Moves of finished files: due, done, put off with a back-off of their own, and away in quarantine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage.database import reading
from storage.ledger.ids import Names, chunks
from storage.records import FileVersion
from storage.schema import (
    IS_MOVE_DUE,
    IS_QUARANTINED,
    FileState,
    MoveState,
    file,
    folder,
    inbox,
    move_due_at_us,
)

_CHUNK = 500
_MOST_ATTEMPTS = 1_000  # counted no further: the column is small
_SETTLED = {"move_attempts": None, "move_not_before_us": None, "move_trouble": None}
# What a version forgets that is judged again.
MOVE_FORGOTTEN: dict[str, Any] = {"move": None, **_SETTLED}


@dataclass(frozen=True, slots=True)
class MoveDue:
    """A file whose result is committed and that is still to be moved away."""

    file_id: int
    version: FileVersion
    attempts: int = 0  # how often moving it has failed

    @property
    def wait_us(self) -> int:
        """How long the next try waits if this one fails: 1 s, 2 s, 4 s ... a minute."""
        return min(60, 1 << min(self.attempts, 6)) * 1_000_000


@dataclass(frozen=True, slots=True)
class MoveFailed:
    """A move that could not be done, and why."""

    due: MoveDue
    reason: str


@dataclass(frozen=True, slots=True)
class MovedAway:
    """A file that was given up and lies in a quarantine folder."""

    file_id: int
    root: bytes  # of its inbox
    version: FileVersion  # as it was judged
    moved_to: bytes  # absolute


@dataclass(frozen=True, slots=True)
class Moves:
    """The ledger's side of moving files; each method is a transaction of its own unless within one."""

    connection: sa.Connection
    names: Names
    clock: Callable[[], int]
    transaction: Callable[[], AbstractContextManager[None]]

    def due(self, limit: int, inbox_ids: Collection[int], *, quarantined: bool) -> list[MoveDue]:
        """Return at most `limit` finished files of these inboxes whose move is due, longest waiting first.

        `quarantined`: those that were given up instead of those that were judged.
        """
        state = int(FileState.QUARANTINED if quarantined else FileState.DONE)
        query = (
            sa.select(*_VERSION, file.c.move_attempts)
            .where(IS_MOVE_DUE, move_due_at_us <= self.clock(), file.c.state == state)
            .where(file.c.folder_id.in_(_folders_of(inbox_ids)))
            .order_by(move_due_at_us, file.c.id)
            .limit(limit)
        )
        with reading(self.connection):
            rows = self.connection.execute(query).all()
            return [MoveDue(row.id, self._version(row), row.move_attempts or 0) for row in rows]

    def next_us(self, inbox_ids: Collection[int]) -> int | None:
        """Return when the next move of these inboxes comes due (0: one is due now), None if none waits."""
        query = sa.select(move_due_at_us).where(IS_MOVE_DUE, file.c.folder_id.in_(_folders_of(inbox_ids)))
        with reading(self.connection):
            found = self.connection.execute(query.order_by(move_due_at_us).limit(1)).scalar_one_or_none()
        return None if found is None else int(found)

    def mark(self, moved: Sequence[tuple[int, bytes | None]]) -> list[int]:
        """Store where files went (absolute path), or None: gone or changed meanwhile, nothing to move.

        Returns the files whose move is not wanted any more: `retry` made them pending meanwhile.
        """
        if not moved:
            return []
        rows = [
            {"b_id": file_id, "move": None if path is None else int(MoveState.MOVED), "moved_to": path}
            for file_id, path in moved
        ]
        statement = file.update().where(file.c.id == sa.bindparam("b_id"), IS_MOVE_DUE).values(_SETTLED)
        with self.transaction():
            due = self._still_due([file_id for file_id, _ in moved])
            self.connection.execute(statement, rows)
        return [file_id for file_id, _ in moved if file_id not in due]

    def put_off(self, failed: Sequence[MoveFailed]) -> None:
        """Store why moves could not be done, and try each again later: ever later, a minute at most."""
        if not failed:
            return
        statement = file.update().where(file.c.id == sa.bindparam("b_id"), IS_MOVE_DUE)
        rows = [
            {
                "b_id": each.due.file_id,
                "move_attempts": min(each.due.attempts + 1, _MOST_ATTEMPTS),
                "move_not_before_us": self.clock() + each.due.wait_us,
                "move_trouble": each.reason,
            }
            for each in failed
        ]
        with self.transaction():
            self.connection.execute(statement, rows)

    def away(self, file_ids: Sequence[int] | None = None) -> Iterator[MovedAway]:
        """Yield the files that lie in a quarantine folder: of these ids, or all."""
        last = 0
        while ids := self._away_ids(file_ids, last):
            last = ids[-1]
            query = (
                sa.select(*_VERSION, file.c.moved_to, inbox.c.path.label("root"))
                .select_from(file.join(folder).join(inbox))
                .where(file.c.id.in_(ids))
            )
            with reading(self.connection):
                rows = self.connection.execute(query).all()
                found = [MovedAway(row.id, row.root, self._version(row), row.moved_to) for row in rows]
            yield from found

    def _away_ids(self, file_ids: Sequence[int] | None, last: int) -> list[int]:
        query = sa.select(file.c.id).where(IS_QUARANTINED, file.c.move == int(MoveState.MOVED))
        query = query.where(file.c.id > last).order_by(file.c.id).limit(_CHUNK)
        if file_ids is not None:
            following = sorted(number for number in file_ids if number > last)[:_CHUNK]
            query = query.where(file.c.id.in_(following))
        with reading(self.connection):
            return [int(number) for number in self.connection.execute(query).scalars()]

    def _still_due(self, file_ids: Sequence[int]) -> set[int]:
        found: set[int] = set()
        for ids in chunks(file_ids):
            query = sa.select(file.c.id).where(file.c.id.in_(ids), IS_MOVE_DUE)
            found |= set(self.connection.execute(query).scalars())
        return found

    def _version(self, row: Any) -> FileVersion:
        inbox_id, folder_path = self.names.folder(row.folder_id)
        return FileVersion(inbox_id, folder_path, row.name, row.size, row.mtime_ns, row.inode)


_VERSION = (file.c.id, file.c.folder_id, file.c.name, file.c.size, file.c.mtime_ns, file.c.inode)


def _folders_of(inbox_ids: Collection[int]) -> sa.Select[tuple[int]]:
    return sa.select(folder.c.id).where(folder.c.inbox_id.in_(sorted(inbox_ids)))
