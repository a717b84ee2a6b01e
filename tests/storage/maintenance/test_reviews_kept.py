"""Reviews outlive pruning unless asked, are checked, and go with backups and file versions."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage.database import open_reader
from storage.maintenance import check_backup as maintenance
from storage.maintenance.prune import Pruned, prune
from storage.maintenance.restore import restore
from storage.queries.results import count, rows
from storage.query import Query, ReviewFilter
from storage.records import Outcome
from storage.reviews.review_queue import candidates
from storage.reviews.review_rows import review_rows, reviews_of
from storage.reviews.review_writer import ReviewWriter
from storage.schema import ReviewOrigin
from tests.support.databases import Target
from tests.support.ledgers import OTHER_MODEL, Store, raw
from tests.support.reviews import AT_US, SKIP, judged_as, open_scored, said, say
from tests.support.stored_results import Program
from trainer.model.series_rule import SeriesRule

pytestmark = pytest.mark.databases


@pytest.fixture
def store(database: Target) -> Iterator[Store]:
    store = open_scored(database, [0.9] * 5)
    yield store
    store.close()


def pruned(store: Store, *, reviewed: bool = False) -> Pruned:
    store.clock.advance(1)
    return prune(store.connection, store.clock.now_us, SeriesRule.from_json, reviewed=reviewed)


def judged_files(store: Store) -> list[int]:
    with closing(open_reader(store.path)) as reader:
        return sorted(row.id for row in rows(reader))


def test_pruning_keeps_what_a_person_answered_and_says_how_much(store: Store) -> None:
    undone = said(3, "tumour")
    say(store, said(1, "tumour"), said(2, SKIP), undone)
    ReviewWriter(str(store.path)).withdraw("ada", undone.request_id, AT_US)

    done = pruned(store)

    assert (done.results, done.kept, done.reviews) == (4, 1, 2)
    assert judged_files(store) == [1]
    assert store.is_sound()


def test_pruning_of_reviewed_results_takes_their_reviews_along(store: Store) -> None:
    say(store, said(1, "tumour"), said(2, SKIP))

    done = pruned(store, reviewed=True)

    assert (done.results, done.kept, done.reviews) == (5, 0, 2)
    assert raw(store.path, "SELECT count(*) FROM review") == [(0,)]
    assert store.is_sound()


def test_reviews_stay_while_another_models_result_does(store: Store) -> None:
    say(store, said(1, "tumour"))
    store.clock.advance(10)
    store.ledger.record([Outcome(1, judged_as(0.9))], store.ledger.model_id(OTHER_MODEL))
    store.clock.advance(-2)

    done = pruned(store, reviewed=True)

    assert (done.results, done.reviews) == (5, 0)
    assert [row.stands for row in reviews_of(store.connection, 1)] == [True]
    assert store.is_sound()


def test_pruning_goes_on_behind_more_kept_results_than_one_bite_holds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.maintenance.prune._BITE", 2)
    say(store, *(said(number, "tumour") for number in (1, 2, 3, 5)))

    done = pruned(store)

    assert (done.results, done.kept) == (1, 4)
    assert judged_files(store) == [1, 2, 3, 5]


def test_forgotten_files_take_their_last_reviews_along(tmp_path: Path) -> None:
    """A skip of a result that went before: nothing may refer to a file that is not known any more."""
    store = open_scored(tmp_path / "results.db", [0.9])
    inbox = tmp_path / "inbox"
    (inbox / "other").mkdir(parents=True)
    raw(store.path, f"UPDATE inbox SET path = x'{os.fsencode(inbox).hex()}'")
    say(store, said(1, SKIP))
    raw(store.path, "DELETE FROM result")
    raw(store.path, "DELETE FROM tally")

    done = pruned(store)

    assert done.files == 1
    assert store.is_sound()
    store.close()


def test_command_says_what_is_kept_and_deletes_it_when_asked(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    say(store, said(1, "tumour"))
    run = Program(store.path, capsys)

    shown = run("db", "prune", "--before", "2027-01-01", "--dry-run").out
    first = run("db", "prune", "--before", "2027-01-01", "--yes").out
    checked = run("db", "check").out
    last = run("db", "prune", "--before", "2027-01-01", "--yes", "--reviewed").out

    assert "4 results from before" in shown
    assert "would be kept: 1 that a person reviewed (--reviewed deletes them too)" in shown
    assert "deleted 4 results" in first
    assert "; kept: 1 that a person reviewed" in first
    assert checked == "ok: 1 results of 5 file versions, 1 reviews\n"
    assert "deleted 1 results" in last
    assert "and 1 reviews" in last


@pytest.mark.databases("sqlite")  # a server refuses such rows
def test_check_finds_reviews_that_cannot_be(store: Store) -> None:
    say(store, said(1, "tumour"), said(1, "tumour", "bob"), said(2, "tumour"))
    raw(store.path, "DROP INDEX uq_review_standing")
    raw(store.path, "UPDATE review SET reviewer_id = 1 WHERE file_id = 1")
    raw(store.path, "UPDATE review SET label_id = NULL, file_id = 99 WHERE file_id = 2")

    problems = maintenance.check(store.path).problems

    assert "2 reviews stand of one reviewer about one file, where one may" in problems
    assert "1 reviews say a class and name none, or name one and say none" in problems
    assert any("refers to a row of file" in problem for problem in problems)


@pytest.mark.databases("sqlite")  # a server has its own programs
def test_backup_and_restore_keep_reviews(store: Store, tmp_path: Path) -> None:
    say(store, said(1, "tumour", note="x"))
    maintenance.backup(store.path, tmp_path / "copy.db")
    say(store, said(2, "tumour"))
    store.close()

    restore(store.path, tmp_path / "copy.db")

    with closing(open_reader(store.path)) as reader:
        assert [(row.file_id, row.note) for row in review_rows(reader)] == [(1, "x")]
    assert maintenance.check(store.path).reviews == 1


@pytest.mark.databases("sqlite")  # 0003 was of files alone
def test_database_of_schema_0003_takes_reviews_after_its_migration(store: Store) -> None:
    """The rows of before are there, and the images of before can be reviewed."""
    store.close()
    with closing(sqlite3.connect(store.path)) as connection:
        connection.executescript(
            "DROP TABLE review; DROP TABLE reviewer; DROP INDEX ix_result_uncertain;"
            "UPDATE alembic_version SET version_num = '0003'"
        )

    done = maintenance.migrate(store.path)
    say(store, said(5, "tumour"))

    assert (done.before, len(done.steps)) == ("0003", 1)
    assert judged_files(store) == [1, 2, 3, 4, 5]
    assert maintenance.check(store.path).problems == ()


def test_review_stays_with_its_file_version_when_it_is_judged_again_or_overwritten(store: Store) -> None:
    say(store, said(1, "tumour"), said(2, "no_tumour"))
    store.ledger.record([Outcome(1, judged_as(0.1))], store.model_id)  # another answer of the same model
    [new] = store.ledger.add([store.version(b"00001.png", size=8_000)])
    store.ledger.record([Outcome(new.file_id, judged_as(0.6))], store.model_id)

    [judged_again] = reviews_of(store.connection, 1)
    [overwritten] = reviews_of(store.connection, 2)

    assert (judged_again.shown_label, judged_again.agrees) == ("tumour", True)  # what the person saw
    assert (overwritten.superseded, overwritten.stands) == (True, True)
    assert reviews_of(store.connection, new.file_id) == []
    corrected = Query(review=ReviewFilter.CORRECTED)
    assert [row.id for row in rows(store.connection, corrected)] == [2, 1]  # by what the row says now
    assert count(store.connection, Query(review=ReviewFilter.NONE)) == 4
    [first, *_] = candidates(store.connection, Query(), limit=1)
    assert (first.row.id, first.origin) == (new.file_id, ReviewOrigin.UNCERTAIN)
