"""Moves among trouble: each waits on its own, nothing is lost, and `retry` brings files home."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemon.service.mover import Mover
from storage.records import FailureKind, FileVersion
from tests.support.daemons import bt_daemon, count
from tests.support.ledgers import Store, open_store


class _Clocks:
    """The monotonic clock and the wall clock of a mover, moved together with the ledger's."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seconds = 1_000.0

    def monotonic(self) -> float:
        return self.seconds

    def now_us(self) -> int:
        return self.store.clock()

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self.store.clock.advance(seconds)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "results.db", move_done=True)
    yield store
    store.close()


def judged_files(store: Store, inbox: Path, names: list[str]) -> None:
    """Make real files below a real inbox whose results are committed."""
    inbox_id = store.ledger.inbox_id(os.fsencode(inbox))
    versions = []
    for name in names:
        path = inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        seen = path.lstat()
        folder, base = os.path.split(name.encode())
        versions.append(FileVersion(inbox_id, folder, base, seen.st_size, seen.st_mtime_ns, seen.st_ino))
    store.judge(store.ledger.add(versions))


def mover_of(store: Store, clocks: _Clocks, inboxes: list[Path], done: Path) -> Mover:
    roots = {store.ledger.inbox_id(os.fsencode(inbox)): os.fsencode(inbox) for inbox in inboxes}
    return Mover(
        store.ledger.moves, roots, str(done), "", logger=logging.getLogger("bt"),
        clock=clocks,
    )  # fmt: skip


def moved(store: Store) -> int:
    return count(store.path, "SELECT count(*) FROM file WHERE move = 2")


@pytest.mark.defects(10)
def test_moves_that_cannot_be_done_hold_up_no_others_of_any_inbox(store: Store, tmp_path: Path) -> None:
    one, other, done = tmp_path / "one", tmp_path / "other", tmp_path / "done"
    done.mkdir()
    (done / "blocked").write_text("a file where a folder should be")
    judged_files(store, one, [f"blocked/{number}.png" for number in range(220)])
    judged_files(store, one, [f"{number}.png" for number in range(20)])
    judged_files(store, other, [f"other-{number}.png" for number in range(20)])
    clocks = _Clocks(store)

    for _ in range(3):  # a mover anew each time, as after a restart
        mover = mover_of(store, clocks, [one, other], done)
        mover.turn()
        clocks.advance(0.1)

    assert moved(store) == 40
    assert store.ledger.counts().moves_due == 220


@pytest.mark.defects(10)
def test_blocked_move_is_done_as_soon_as_it_can_be(store: Store, tmp_path: Path) -> None:
    inbox, done = tmp_path / "inbox", tmp_path / "done"
    done.mkdir()
    (done / "blocked").write_text("a file where a folder should be")
    judged_files(store, inbox, ["blocked/a.png"])
    clocks = _Clocks(store)
    mover = mover_of(store, clocks, [inbox], done)
    mover.turn()
    assert clocks.seconds < mover.next_due() <= clocks.seconds + 60

    (done / "blocked").unlink()
    clocks.advance(mover.next_due() - clocks.seconds)
    mover.turn()

    assert moved(store) == 1
    assert mover.next_due() == float("inf")


@pytest.mark.defects(10)
def test_moves_of_inboxes_nobody_watches_wait_aside(store: Store, tmp_path: Path) -> None:
    watched, other, done = tmp_path / "watched", tmp_path / "other", tmp_path / "done"
    judged_files(store, other, [f"{number}.png" for number in range(250)])
    judged_files(store, watched, ["mine.png"])
    mover = mover_of(store, _Clocks(store), [watched], done)

    mover.turn()

    assert moved(store) == 1
    assert (done / "mine.png").exists()


@pytest.mark.defects(11)
def test_full_target_is_tried_with_one_file_at_a_time_and_empties_when_there_is_room(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from daemon.service import mover as module
    from daemon.service.move import MoveError, move_away

    inbox, done = tmp_path / "inbox", tmp_path / "done"
    judged_files(store, inbox, [f"{number}.png" for number in range(30)])
    clocks = _Clocks(store)
    tried: list[Any] = []
    real: Callable[..., bytes | None] = move_away

    def full(*arguments: object) -> bytes | None:
        tried.append(arguments)
        raise MoveError("No space left on device", place=True)

    monkeypatch.setattr(module, "move_away", full)
    mover = mover_of(store, clocks, [inbox], done)
    for _ in range(5):
        mover.turn()
        clocks.advance(mover.next_due() - clocks.seconds)
    assert len(tried) == 5

    monkeypatch.setattr(module, "move_away", real)
    while mover.next_due() != float("inf"):
        clocks.advance(max(0.0, mover.next_due() - clocks.seconds))
        mover.turn()

    assert moved(store) == 30


@pytest.mark.defects(9)
def test_file_moved_while_the_database_is_locked_keeps_its_place(store: Store, tmp_path: Path) -> None:
    inbox, done = tmp_path / "inbox", tmp_path / "done"
    judged_files(store, inbox, ["a.png"])
    clocks = _Clocks(store)
    mover = mover_of(store, clocks, [inbox], done)
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    mover.turn()
    assert (done / "a.png").exists()
    holder.execute("ROLLBACK")
    holder.close()
    clocks.advance(1)
    mover.turn()

    with closing(sqlite3.connect(store.path)) as other:
        [(place,)] = other.execute("SELECT moved_to FROM file").fetchall()
    assert os.fsdecode(place) == str(done / "a.png")


@pytest.mark.defects(9)
def test_file_whose_move_was_not_marked_before_a_crash_is_found_where_it_lies(
    store: Store, tmp_path: Path
) -> None:
    inbox, done = tmp_path / "inbox", tmp_path / "done"
    judged_files(store, inbox, ["a.png"])
    done.mkdir()
    (inbox / "a.png").rename(done / "a.png")

    mover_of(store, _Clocks(store), [inbox], done).turn()

    with closing(sqlite3.connect(store.path)) as other:
        [(place,)] = other.execute("SELECT moved_to FROM file").fetchall()
    assert os.fsdecode(place) == str(done / "a.png")


@pytest.mark.defects(1)
def test_file_that_retry_wants_while_it_is_moved_comes_back(store: Store, tmp_path: Path) -> None:
    inbox, done = tmp_path / "inbox", tmp_path / "done"
    judged_files(store, inbox, ["a.png"])
    mover = mover_of(store, _Clocks(store), [inbox], done)
    [due] = store.ledger.moves.due(1, mover._roots.keys(), quarantined=False)
    mover._moved[due.file_id] = (due, str(done / "a.png").encode())
    done.mkdir()
    (inbox / "a.png").rename(done / "a.png")
    with closing(sqlite3.connect(store.path)) as other, other:
        other.execute("UPDATE file SET state = 0, move = NULL")

    mover.turn()

    assert (inbox / "a.png").exists()
    assert not (done / "a.png").exists()


def watched(inbox: Path, database: Path, quarantine: Path) -> None:
    done = bt_daemon(
        "watch", inbox, "--once", "--settle", "0s", "--db", database, "--quarantine-dir", quarantine
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.defects(1)
@pytest.mark.parametrize("mended", [False, True])
def test_quarantined_file_is_judged_again_by_retry_and_keeps_one_row(tmp_path: Path, mended: bool) -> None:
    from trainer.images.phantom import phantom

    inbox, quarantine, database = tmp_path / "in", tmp_path / "quar", tmp_path / "results.db"
    inbox.mkdir()
    (inbox / "bad.png").write_text("no picture")
    watched(inbox, database, quarantine)
    assert (quarantine / "bad.png").exists()
    if mended:
        phantom(1, lesion=True, size=64).save(quarantine / "bad.png")

    retried = bt_daemon("retry", "--all", "--db", database)
    watched(inbox, database, quarantine)

    assert (retried.returncode, retried.stdout) == (0, "1 image put back\n")
    results = json.loads(bt_daemon("results", "--format", "json", "--db", database).stdout)
    assert [row["status"] == "error" for row in results] == [not mended]
    assert (inbox / "bad.png").exists() is mended
    assert (quarantine / "bad.png").exists() is not mended


@pytest.mark.slow
@pytest.mark.defects(1)
def test_retry_of_a_file_whose_place_is_taken_overwrites_nothing_and_says_so(
    tmp_path: Path,
) -> None:
    inbox, quarantine, database = tmp_path / "in", tmp_path / "quar", tmp_path / "results.db"
    inbox.mkdir()
    (inbox / "bad.png").write_text("no picture")
    watched(inbox, database, quarantine)
    (inbox / "bad.png").write_text("another, not seen yet")

    retried = bt_daemon("retry", "--all", "--db", database)

    assert retried.returncode == 1
    assert retried.stdout == "0 images put back\n"
    assert "its place in the inbox is taken by another file" in retried.stderr
    assert (inbox / "bad.png").read_text() == "another, not seen yet"
    assert (quarantine / "bad.png").read_text() == "no picture"
    assert count(database) == 1


@pytest.mark.slow
@pytest.mark.defects(1)
def test_quarantined_file_that_was_deleted_keeps_its_error_row(tmp_path: Path) -> None:
    inbox, quarantine, database = tmp_path / "in", tmp_path / "quar", tmp_path / "results.db"
    inbox.mkdir()
    (inbox / "bad.png").write_text("no picture")
    watched(inbox, database, quarantine)
    (quarantine / "bad.png").unlink()

    retried = bt_daemon("retry", "--all", "--db", database)

    assert retried.returncode == 1
    assert "it is not there any more" in retried.stderr
    assert count(database) == 1


@pytest.mark.defects(10)
def test_attempts_of_a_move_grow_its_wait_to_a_minute_and_no_further(store: Store) -> None:
    from storage.ledger.moves import MoveDue

    version = store.version(b"a.png")
    waits = [MoveDue(1, version, attempts).wait_us // 1_000_000 for attempts in (0, 1, 2, 5, 6, 900)]

    assert waits == [1, 2, 4, 32, 60, 60]


@pytest.mark.defects(1)
def test_requeue_leaves_what_lies_in_quarantine_as_it_is(tmp_path: Path) -> None:
    store = open_store(tmp_path / "results.db", move_done=True)
    [entry] = store.add(b"a.png")
    store.fail(entry, FailureKind.PERMANENT)
    with closing(sqlite3.connect(store.path)) as other, other:
        other.execute("UPDATE file SET move = 2, moved_to = 'x'")

    assert store.ledger.requeue() == store.ledger.requeue([entry.file_id]) == 0
    assert count(store.path) == 1
    store.close()
