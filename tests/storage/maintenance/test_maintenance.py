"""Check, backup, migration of every published schema, and pruning that forgets no file."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from config.errors import UsageError
from storage.database import open_reader, open_writer, writing
from storage.database_errors import DatabaseMissingError
from storage.maintenance import check_backup as maintenance
from storage.maintenance.prune import prune
from storage.queries.history import story
from storage.queries.results import count, rows
from storage.query import Query
from storage.records import FailureKind, FileVersion, Judged, Status
from storage.reviews.answers import Review
from storage.reviews.review_rows import review_rows
from storage.reviews.review_writer import ReviewWriter
from storage.schema import REVISION, ReviewAnswer, ReviewOrigin
from tests.conftest import REPOSITORY
from tests.support.databases import Target
from tests.support.ledgers import MODEL, TUMOUR, Store, open_store, raw
from trainer.model.series_rule import SeriesRule

AT_US = 1_790_000_100_000_000
SCHEMAS = REPOSITORY / "tests" / "schemas"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    path = tmp_path / "inbox"
    path.mkdir()
    return path


def judged_file(store: Store, inbox: Path, name: str) -> FileVersion:
    """Put a real file into a real inbox and judge it."""
    path = inbox / name
    path.write_bytes(name.encode())
    seen = path.lstat()
    inbox_id = store.ledger.inbox_id(os.fsencode(inbox))
    version = FileVersion(inbox_id, b"", name.encode(), seen.st_size, seen.st_mtime_ns, seen.st_ino)
    store.judge(store.ledger.add([version]))
    return version


def test_facts_of_a_database_and_of_none(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    before = maintenance.facts(path)
    open_writer(path).close()

    after = maintenance.facts(path)

    assert (before.exists, before.revision, before.size_bytes) == (False, None, 0)
    assert (after.exists, after.revision, after.path) == (True, REVISION, path)
    assert after.size_bytes > 0


@pytest.mark.databases("sqlite")  # a server refuses such rows
def test_check_finds_tallies_that_do_not_add_up_and_missing_references(database: Target) -> None:
    store = open_store(database)
    store.judge(store.add(b"a.png", b"b.png"))
    sound = maintenance.check(store.path)
    store.close()

    raw(store.path, "DELETE FROM result WHERE id = 1")
    raw(store.path, "UPDATE result SET label_id = 77")
    broken = maintenance.check(store.path)

    assert (sound.problems, sound.results, sound.files) == ((), 2, 2)
    assert any("tallies" in problem for problem in broken.problems)
    assert any("label" in problem for problem in broken.problems)


def test_backup_is_a_whole_private_copy_taken_while_the_daemon_writes(tmp_path: Path) -> None:
    store = open_store(tmp_path / "results.db")
    store.judge(store.add(b"a.png"))
    copy = tmp_path / "copy.db"

    with store.ledger.transaction():
        store.judge(store.add(b"b.png"))
        size = maintenance.backup(store.path, copy)

    with open_reader(copy) as reader:
        assert count(reader) == 1
    assert maintenance.check(copy).problems == ()
    assert (copy.stat().st_size, copy.stat().st_mode & 0o777) == (size, 0o600)
    assert sorted(path.name for path in tmp_path.glob("*backup*")) == []
    store.close()


def test_backup_overwrites_nothing_and_says_what_is_wrong(tmp_path: Path) -> None:
    open_writer(tmp_path / "results.db").close()
    (tmp_path / "taken").write_text("mine")

    with pytest.raises(UsageError, match="exists already"):
        maintenance.backup(tmp_path / "results.db", tmp_path / "taken")
    with pytest.raises(UsageError, match="cannot be written"):
        maintenance.backup(tmp_path / "results.db", tmp_path / "no" / "folder")
    with pytest.raises(DatabaseMissingError):
        maintenance.backup(tmp_path / "none.db", tmp_path / "copy.db")

    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("schema", sorted(SCHEMAS.glob("*.sql")), ids=lambda path: path.stem)
def test_database_of_each_published_schema_opens_with_its_rows_equal(tmp_path: Path, schema: Path) -> None:
    path = tmp_path / "results.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema.read_text())

    done = maintenance.migrate(path)

    assert (done.before, done.after) == (schema.stem, REVISION)
    assert maintenance.check(path).problems == ()
    with open_reader(path) as reader:
        found = {
            (row.path, row.status, row.label, row.confidence, row.reason, row.sha256, row.superseded)
            for row in rows(reader)
        }
        said = [(row.path, row.agrees if row.stands else None) for row in review_rows(reader, withdrawn=True)]
    assert found == {
        (b"a.png", Status.OK, "tumour", 0.97, None, b"\1" * 32, False),
        (b"sub/\xff.png", Status.UNCERTAIN, "no_tumour", 0.55, "near the threshold", b"\2" * 32, True),
        (b"sub/\xff.png", Status.OK, "tumour", 0.97, None, b"\3" * 32, False),
        (b"text.png", Status.ERROR, None, None, "not an image", None, False),
    }
    assert said == (
        [] if schema.stem < "0004" else [(b"a.png", None), (b"a.png", True), (b"sub/\xff.png", False)]
    )
    store = open_store(path)
    assert [entry.version.name for entry in store.ledger.due(10, 1 << 60)] == [b"new.png", b"again.png"]
    store.close()


def test_newest_schema_is_among_the_published_ones() -> None:
    """A new revision needs its fixture: `fixture_rows` below, then `sqlite3 results.db .dump`."""
    assert (SCHEMAS / f"{REVISION}.sql").exists()


def fixture_rows(store: Store) -> None:
    """Make the rows that every file in tests/schemas holds."""
    first, bad, again, _ = store.add(b"a.png", b"text.png", b"again.png", b"new.png")
    store.judge([first], sha256=b"\1" * 32)
    [old] = store.ledger.add([store.version(b"\xff.png", b"sub")])
    store.judge([old], Judged(Status.UNCERTAIN, "no_tumour", 0.55, "near the threshold"), b"\2" * 32)
    [new] = store.ledger.add([store.version(b"\xff.png", b"sub", size=8_000)])
    store.judge([new], sha256=b"\3" * 32)
    store.fail(bad, FailureKind.PERMANENT, "not an image")
    store.fail(again, FailureKind.TRANSIENT, "permission denied")
    reviews = [
        Review(
            bytes([number]) * 16,
            file_id,
            MODEL.weights_sha256,
            "ada",
            answer,
            AT_US,
            ReviewOrigin.CHOSEN,
            label,
        )
        for number, file_id, answer, label in (
            (1, first.file_id, ReviewAnswer.OTHER_KIND, None),
            (2, first.file_id, ReviewAnswer.CLASS, "tumour"),
            (3, old.file_id, ReviewAnswer.CLASS, "tumour"),
        )
    ]
    ReviewWriter(str(store.path)).add(reviews)


@pytest.mark.databases
def test_pruned_results_are_gone_and_uncounted_while_later_ones_stay(database: Target, inbox: Path) -> None:
    store = open_store(database)
    for name in ("a.png", "b.png"):
        judged_file(store, inbox, name)
    store.clock.advance(86_400)
    judged_file(store, inbox, "c.png")

    pruned = prune(store.connection, store.clock.now_us, SeriesRule.from_json)

    assert (pruned.results, pruned.files) == (2, 0)
    assert [row.path for row in rows(store.connection)] == [b"c.png"]
    assert store.is_sound()
    store.close()


@pytest.mark.databases
def test_file_that_still_lies_in_its_inbox_is_not_judged_again_after_pruning(
    database: Target, inbox: Path
) -> None:
    store = open_store(database)
    kept = judged_file(store, inbox, "kept.png")
    deleted = judged_file(store, inbox, "deleted.png")
    (inbox / "deleted.png").unlink()
    store.clock.advance(1)

    pruned = prune(store.connection, store.clock.now_us, SeriesRule.from_json)

    assert (pruned.results, pruned.files) == (2, 1)
    assert store.ledger.unknown([kept, deleted]) == [deleted]
    store.close()


@pytest.mark.parametrize("away", ["removed", "unmounted"])
@pytest.mark.databases
def test_inbox_that_is_away_makes_no_file_forgotten(database: Target, inbox: Path, away: str) -> None:
    store = open_store(database)
    version = judged_file(store, inbox, "a.png")
    shutil.rmtree(inbox)
    if away == "unmounted":
        inbox.mkdir()
    store.clock.advance(1)

    pruned = prune(store.connection, store.clock.now_us, SeriesRule.from_json)

    assert (pruned.results, pruned.files) == (1, 0)
    assert store.ledger.unknown([version]) == []
    store.close()


@pytest.mark.databases
def test_pruning_keeps_what_waits_and_forgets_old_versions_and_moved_files(
    database: Target, inbox: Path
) -> None:
    store = open_store(database, move_done=True)
    old = judged_file(store, inbox, "a.png")
    os.utime(inbox / "a.png", ns=(5, 5))
    judged_file(store, inbox, "a.png")
    moved = judged_file(store, inbox, "moved.png")
    [(moved_id, _)] = [(row.id, row.path) for row in rows(store.connection) if row.path == b"moved.png"]
    store.ledger.moves.mark([(moved_id, b"/done/moved.png")])
    [waiting] = store.add(b"waiting.png")
    store.clock.advance(1)

    pruned = prune(store.connection, store.clock.now_us, SeriesRule.from_json)

    assert (pruned.results, pruned.files) == (3, 2)
    assert store.ledger.unknown([moved]) == [moved]
    assert old is not None
    [told] = story(store.connection, os.fsencode(inbox / "a.png"))
    assert len(told.versions) == 1
    assert [entry.file_id for entry in store.due()] == [waiting.file_id]
    assert store.is_sound()
    store.close()


@pytest.mark.databases
def test_pruning_goes_bite_by_bite_so_that_the_daemon_is_never_held_up_for_long(database: Target) -> None:
    store = open_store(database)
    store.judge(store.add(*(b"%d.png" % number for number in range(4_500))), TUMOUR)
    store.clock.advance(1)

    with open_writer(store.path, checkpoints=False) as other:
        pruned = prune(other, store.clock.now_us, SeriesRule.from_json)

    assert pruned.results == 4_500
    assert count(store.connection, Query()) == 0
    assert store.ledger.changed_elsewhere() is False  # asked for the first time
    with writing(store.connection):
        pass
    store.close()
