r"""Ledger of file versions: seen, judged, moved; in the same database as the results.

    add -> PENDING -> record -> DONE | QUARANTINED | PENDING again, later | GONE | CHANGED
                  \-> SUPERSEDED, when another version of the same path comes

A result and the state that goes with it are one transaction, so inference may happen twice but a
row never does: whatever was rolled back, or may have been, is handed in again unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from storage.backend.backend import backend_of
from storage.counters import TallyChanges
from storage.database import reading, writing
from storage.ledger import outcomes as storing
from storage.ledger.heartbeat import Counts, Heartbeat, counts, store_heartbeat
from storage.ledger.ids import Names, by_folder, chunks
from storage.ledger.moves import MOVE_FORGOTTEN, Moves
from storage.ledger.retry import RetryPolicy
from storage.ledger.series_keeper import SeriesKeeper, SeriesReading
from storage.records import Entry, FileVersion, ModelRecord, Outcome
from storage.schema import (
    IS_CURRENT,
    IS_PENDING,
    IS_QUARANTINED,
    FileState,
    MoveState,
    due_at_us,
    file,
    folder,
    inbox,
    model,
    result,
)
from storage.statements import PreparedIn
from storage.upsert import many_inserts

# Ids that change hands in one transaction when a whole database is gone through (requeue, reclassify).
_SWEEP = 10_000
_FORGOTTEN = (int(FileState.GONE), int(FileState.CHANGED))


def wall_clock_us() -> int:
    """Return the time in microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


class Ledger:
    """All changes to the database, by one thread of one daemon (and, briefly, by `retry`).

    Every method is a transaction of its own unless it is called within `transaction()`. All raise
    DatabaseError; where its `transient` is true, the same call may be repeated later, unchanged.
    """

    def __init__(
        self,
        connection: sa.Connection,
        clock: Callable[[], int] = wall_clock_us,
        retry: RetryPolicy | None = None,
        *,
        moving: Collection[FileState] = (),
        series: SeriesReading | None = None,
    ) -> None:
        """`moving` are the states after whose commit a file is moved; without `series` none are kept."""
        self._connection = connection
        self._clock = clock
        self._retry = retry or RetryPolicy()
        self._moving = frozenset(moving)
        self._names = Names(connection)
        self.series = SeriesKeeper(connection, self._names, series)
        self._change_number = -1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is called within one commit; after any exception nothing of it happened.

        (Or, after an error while flushing, all of it did: a repeat does no harm.)
        """
        if self._connection.in_transaction():
            yield
            return
        try:
            with writing(self._connection):
                if self._names.forget_other_session():
                    self.series.forget()
                yield
        except BaseException:
            self._names.forget()
            self.series.forget()
            raise

    def inbox_id(self, path: bytes) -> int:
        """Return the number of the inbox at the absolute `path`."""
        with self.transaction():
            return self._names.inbox_id(path)

    def inbox_around(self, path: bytes) -> bytes | None:
        """Return the nearest known inbox that an absolute folder is, or lies in; None if there is none."""
        with reading(self._connection):
            known = [bytes(root) for root in self._connection.execute(sa.select(inbox.c.path)).scalars()]
        around = [root for root in known if path == root or path.startswith(root.rstrip(b"/") + b"/")]
        return max(around, key=len, default=None)

    def model_id(self, record: ModelRecord) -> int:
        """Return the number of a model on an engine."""
        with self.transaction():
            return self._names.model_id(record, self._clock())

    def unknown(self, versions: Sequence[FileVersion]) -> list[FileVersion]:
        """Return those of `versions` that are not their path's current version, folder by folder."""
        new: list[FileVersion] = []
        with reading(self._connection):
            for key, group in by_folder(versions).items():
                held = self._current(key, group)
                # Spelt out, not `_is_held`: a scan of 100,000 known files spends its time here.
                for version in group:
                    row = held.get(version.name)
                    if (
                        row is None
                        or row[2] != version.mtime_ns
                        or row[1] != version.size
                        or row[3] != version.inode
                        or row[4] in _FORGOTTEN
                    ):
                        new.append(version)
        return new

    def add(self, versions: Sequence[FileVersion]) -> list[Entry]:
        """Take up the versions not held yet and return them as pending entries, folder by folder.

        A version supersedes the one that its path had; of several for one path the last counts.
        """
        if not versions:
            return []
        with self.transaction():
            latest = {(version.inbox_id, version.folder, version.name): version for version in versions}
            entries: list[Entry] = []
            for key, group in by_folder(latest.values()).items():
                held = self._current(key, group)
                new = [version for version in group if not _is_held(held.get(version.name), version)]
                if new:
                    entries += self._insert(self._names.folder_id(*key), new, held)
            return entries

    def due(
        self,
        limit: int,
        now_us: int,
        exclude: Collection[int] = (),
        inbox_ids: Collection[int] | None = None,
    ) -> list[Entry]:
        """Return at most `limit` pending entries whose time has come, oldest first, without `exclude`.

        With `inbox_ids` only those of these inboxes: others may wait for a daemon that watches them.
        """
        if limit <= 0:
            return []
        with reading(self._connection):
            # Ids being judged are among the oldest, so they are read and passed over.
            wanted = limit + len(exclude)
            due, due_far = _DUE, _DUE_FAR
            if inbox_ids is not None:
                watched = file.c.folder_id.in_(
                    sa.select(folder.c.id).where(folder.c.inbox_id.in_(sorted(inbox_ids)))
                )
                due, due_far = due.where(watched), due_far.where(watched)
            rows = list(self._connection.execute(due, {"until_us": now_us, "wanted": wanted}).all())
            if len(rows) < wanted:
                # No entry is put off that far: it was put off before the clock was set back.
                far = {"after_us": now_us + self._retry.longest_wait_us, "wanted": wanted - len(rows)}
                rows += self._connection.execute(due_far, far).all()
            return [self._entry(row) for row in rows if row.id not in exclude][:limit]

    def next_due_us(self, now_us: int | None = None) -> int | None:
        """Return when the next entry that is put off comes due, None if none is.

        Entries that are due by now do not count: `due` returns those.
        """
        with reading(self._connection):
            after_us = self._clock() if now_us is None else now_us
            found = self._connection.execute(_NEXT_DUE, {"after_us": after_us}).scalar_one_or_none()
        return None if found is None else int(found)

    def record(self, outcomes: Sequence[Outcome], model_id: int) -> dict[int, FileState]:
        """Store what became of entries: result, attempt and state of each; return the states by file id.

        An outcome of a version that was superseded meanwhile is dropped, one recorded before is
        recorded again without any effect.
        """
        if not outcomes:
            return {}
        with self.transaction():
            shared = (self._connection, self._names, model_id, self._clock(), self._retry)
            context = storing.Context(*shared, self.series.changes())
            return storing.store(context, outcomes, self._moving)

    def mark_gone(self, file_ids: Sequence[int]) -> None:
        """Say of pending versions that their files were deleted; if they come back they are pending again."""
        with self.transaction():
            for ids in chunks(file_ids):
                statement = file.update().where(file.c.id.in_(ids), IS_PENDING)
                self._connection.execute(statement.values(state=int(FileState.GONE)))

    def requeue(self, file_ids: Sequence[int] | None = None) -> int:
        """Make quarantined versions (None: all) pending again and waiting ones due now; return how many.

        Their error rows go: the attempts tell what happened, and the row to come takes their place. What
        lies in a quarantine folder is left as it is: see `storage.ledger.moves`.
        """
        count = 0
        for ids in self._at_home(file_ids) if file_ids is not None else self._sweep(_IS_STUCK):
            with self.transaction():
                count += self._requeue(ids)
        return count

    def reclassify(self, model_id: int) -> int:
        """Make every judged version that is still in its inbox pending for another model; return how many."""
        count = 0
        for ids in self._sweep(_judged_by_others(model_id)):
            values = {"state": int(FileState.PENDING), "attempts": 0, "not_before_us": self._clock()}
            with self.transaction():
                for chunk in chunks(ids):
                    self._connection.execute(file.update().where(file.c.id.in_(chunk)).values(values))
            count += len(ids)
        return count

    def judged_by_others(self, model_id: int) -> int:
        """Return how many images `reclassify` would have judged again; quick where one model is known."""
        with reading(self._connection):
            if self._connection.execute(_MODELS).scalar_one() < 2:
                return 0
            query = sa.select(sa.func.count()).select_from(file).where(_judged_by_others(model_id))
            return int(self._connection.execute(query).scalar_one())

    def beat(self, heartbeat: Heartbeat) -> None:
        """Store what the daemon says about itself; within `transaction()` it costs no commit of its own."""
        with self.transaction():
            store_heartbeat(self._connection, heartbeat)

    def counts(self) -> Counts:
        """Return how much waits; the cost grows with what waits, not with what is done."""
        with reading(self._connection):
            return counts(self._connection)

    def changed_elsewhere(self) -> bool:
        """Tell whether another process committed (`retry`, `prune`) since the last time this was asked."""
        with reading(self._connection):
            number = backend_of(self._connection).change_number(self._connection)
        changed = self._change_number not in (-1, number)
        self._change_number = number
        return changed

    def _current(self, key: tuple[int, bytes], versions: Sequence[FileVersion]) -> dict[bytes, _Current]:
        """Return the current rows of those of a folder's `versions` whose path has one, by name."""
        folder_id = self._names.find_folder(*key)
        if folder_id is None:
            return {}
        names = [version.name for version in versions]
        return {row[0]: row for row in _CURRENT.all(self._connection, (folder_id,), names)}

    def _insert(self, folder_id: int, new: Sequence[FileVersion], held: dict[bytes, _Current]) -> list[Entry]:
        now_us = self._clock()
        # The write lock is held, so no other process can take the same numbers.
        next_id = self._connection.execute(_LAST_ID).scalar_one()
        entries, rows, back, old = [], [], [], []
        for version in new:
            row = held.get(version.name)
            if row is not None and _is_same(row, version):
                back.append(row[5])
                entries.append(Entry(row[5], version, 0, now_us))
                continue
            if row is not None:
                old.append(row[5])
            next_id += 1
            rows.append(_file_row(next_id, folder_id, version, now_us, None if row is None else row[5]))
            entries.append(Entry(next_id, version, 0, now_us))
        self._set_state(old, state=int(FileState.SUPERSEDED), move=None)
        self.series.files_changed(old)
        pending = {"state": int(FileState.PENDING), "attempts": 0}
        self._set_state(back, **pending, first_seen_us=now_us, not_before_us=None)
        _INSERT.write(self._connection, rows)
        return entries

    def _set_state(self, ids: Sequence[int], **values: Any) -> None:
        for chunk in chunks(ids):
            self._connection.execute(file.update().where(file.c.id.in_(chunk)).values(values))

    def _requeue(self, ids: Sequence[int]) -> int:
        changes = TallyChanges()
        storing.drop_errors(self._connection, self._names, ids, changes)
        changes.write(self._connection)
        statement = file.update().where(file.c.id.in_(ids), IS_QUARANTINED | _IS_PUT_OFF)
        values = {"state": int(FileState.PENDING), "attempts": 0, "not_before_us": None, **MOVE_FORGOTTEN}
        return self._connection.execute(statement.values(values)).rowcount

    def came_home(self, file_id: int, version: FileVersion) -> None:
        """Make a file that was brought back from quarantine pending, as it lies in its inbox now.

        Its error row goes with it, as with `requeue`.
        """
        values = {
            "size": version.size, "mtime_ns": version.mtime_ns, "inode": version.inode,
            "first_seen_us": self._clock(), "moved_to": None,
        }  # fmt: skip
        with self.transaction():
            self._connection.execute(file.update().where(file.c.id == file_id).values(values))
            self._requeue([file_id])

    @property
    def moves(self) -> Moves:
        """The moves of finished files, on the ledger's connection."""
        return Moves(self._connection, self._names, self._clock, self.transaction)

    def _at_home(self, file_ids: Sequence[int]) -> Iterator[list[int]]:
        for ids in chunks(file_ids):
            query = sa.select(file.c.id).where(file.c.id.in_(ids), _IS_STUCK)
            with reading(self._connection):
                found = [int(number) for number in self._connection.execute(query).scalars()]
            yield found

    def _sweep(self, condition: sa.ColumnElement[bool]) -> Iterator[list[int]]:
        """Yield the ids of all files that meet `condition`, in bites, so that no transaction grows large."""
        last = 0
        while True:
            query = sa.select(file.c.id).where(condition, file.c.id > last).order_by(file.c.id).limit(_SWEEP)
            with reading(self._connection):
                ids = [int(number) for number in self._connection.execute(query).scalars()]
            if not ids:
                return
            last = ids[-1]
            yield ids

    def _entry(self, row: Any) -> Entry:
        return Entry(row.id, self._version(row), row.attempts, row.first_seen_us)

    def _version(self, row: Any) -> FileVersion:
        inbox_id, folder_path = self._names.folder(row.folder_id)
        return FileVersion(inbox_id, folder_path, row.name, row.size, row.mtime_ns, row.inode)


_VERSION = (file.c.id, file.c.folder_id, file.c.name, file.c.size, file.c.mtime_ns, file.c.inode)
_WAITING = (
    sa.select(*_VERSION, file.c.attempts, file.c.first_seen_us)
    .where(IS_PENDING)
    # Exactly the index's order, or SQLite sorts a whole burst that was seen in one turn.
    .order_by(due_at_us, file.c.attempts, file.c.first_seen_us, file.c.id)
    .limit(sa.bindparam("wanted"))
)
_DUE = _WAITING.where(due_at_us <= sa.bindparam("until_us"))
_DUE_FAR = _WAITING.where(due_at_us > sa.bindparam("after_us"))
_NEXT_DUE = (
    sa.select(due_at_us).where(IS_PENDING, due_at_us > sa.bindparam("after_us")).order_by(due_at_us).limit(1)
)
_IS_PUT_OFF = IS_PENDING & (file.c.attempts > 0)
_IS_STUCK = (IS_QUARANTINED & file.c.move.is_distinct_from(int(MoveState.MOVED))) | _IS_PUT_OFF
_MODELS = sa.select(sa.func.count()).select_from(model)
_LAST_ID = sa.select(sa.func.coalesce(sa.func.max(file.c.id), 0))
_INSERTED = "id folder_id name size mtime_ns inode state attempts first_seen_us previous_id"
_INSERT = many_inserts(file, _INSERTED.split())
_CURRENT = PreparedIn(
    lambda names: sa.select(
        file.c.name, file.c.size, file.c.mtime_ns, file.c.inode, file.c.state, file.c.id
    ).where(file.c.folder_id == sa.bindparam("in_folder"), file.c.name.in_(names), IS_CURRENT),
    ["in_folder"],
)
# (name, size, mtime_ns, inode, state, id)
_Current = tuple[bytes, int, int, int, int, int]


def _judged_by_others(model_id: int) -> sa.ColumnElement[bool]:
    judged = sa.exists().where(result.c.file_id == file.c.id, result.c.model_id == model_id)
    present = (file.c.state == int(FileState.DONE)) & file.c.move.is_distinct_from(int(MoveState.MOVED))
    return present & ~judged


def _is_same(row: _Current, version: FileVersion) -> bool:
    """Compare size, mtime and inode: an inode used again by other content makes another version."""
    return row[1:4] == (version.size, version.mtime_ns, version.inode)


def _is_held(row: _Current | None, version: FileVersion) -> bool:
    return row is not None and _is_same(row, version) and row[4] not in _FORGOTTEN


def _file_row(
    file_id: int, folder_id: int, version: FileVersion, now_us: int, previous_id: int | None
) -> tuple[Any, ...]:
    seen = (version.name, version.size, version.mtime_ns, version.inode)
    return (file_id, folder_id, *seen, int(FileState.PENDING), 0, now_us, previous_id)
