"""Counts are of images: a second model's judgements do not make them more."""

from __future__ import annotations

import json
import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import storage.queries.totals
from daemon.output.words import counted
from storage.database import open_reader
from storage.queries.results import rows
from storage.queries.totals import Totals, summary_by_model, totals
from storage.query import Query
from storage.records import Failed, FailureKind, Status
from tests.support.databases import Target
from tests.support.stored_results import MODEL, Program, Store, judged, run_in_terminal

pytestmark = pytest.mark.databases

SECOND = replace(MODEL, weights_sha256="ffff0000" * 8, version="2.0")
NO_IMAGE = Failed(FailureKind.PERMANENT, "not an image")


@pytest.fixture
def store(database: Target, tmp_path: Path) -> Store:
    """Six images, four of them judged by two models, which disagree."""
    store = Store(database, tmp_path / "inbox")
    store.put([(b"%d.png" % number, judged("yes", 0.9)) for number in range(4)])
    store.judge_again([judged("no", 0.8)] * 4, SECOND)
    store.put([(b"new.png", judged("no", 0.7)), (b"letter.txt", NO_IMAGE)], model=SECOND)
    return store


def _totals(store: Store, query: Query | None = None) -> Totals:
    with closing(open_reader(store.path)) as reader:
        return totals(reader, query or Query())


@pytest.mark.defects(36)
def test_an_image_that_two_models_judged_is_one_image(store: Store) -> None:
    assert _totals(store) == Totals(images=6, judgements=10, models=2)


@pytest.mark.defects(36)
@pytest.mark.parametrize(
    ("query", "images", "judgements"),
    [
        (Query(model="ffff"), 6, 6),
        (Query(labels=("no",)), 5, 5),
        (Query(labels=("no", "yes")), 5, 9),
        (Query(min_confidence=0.8), 4, 8),
        (Query(text="png"), 5, 9),
        (Query(statuses=(Status.ERROR,)), 1, 1),
        (Query(labels=("none",)), 0, 0),
    ],
    ids=str,
)
def test_filters_narrow_images_and_judgements_down(
    store: Store, query: Query, images: int, judgements: int
) -> None:
    found = _totals(store, query)

    assert (found.images, found.judgements) == (images, judgements)


@pytest.mark.defects(36)
def test_counts_by_class_belong_to_one_model_each(store: Store) -> None:
    with closing(open_reader(store.path)) as reader:
        found = summary_by_model(reader, Query())

    told = [(row.version, row.label, row.status.value, row.count) for row in found]
    assert told == [("2.0", "no", "ok", 5), ("2.0", None, "error", 1), ("1.0", "yes", "ok", 4)]


def test_a_file_that_was_rewritten_is_another_image(store: Store) -> None:
    store.put([(b"new.png", judged("yes", 0.9))], model=SECOND)

    assert _totals(store, Query(text="new")) == Totals(images=2, judgements=2, models=1)


def test_images_are_counted_exactly_whatever_is_asked(database: Target, tmp_path: Path) -> None:
    store, chance = Store(database, tmp_path / "inbox"), random.Random(3)
    store.put([(b"%d.png" % n, judged(chance.choice(["yes", "no"]), chance.random())) for n in range(120)])
    store.judge_again([judged(chance.choice(["yes", "no"]), chance.random()) for _ in range(70)], SECOND)
    since = store.clock() - 150_000_000
    queries = [
        Query(), Query(labels=("yes",)), Query(since_us=since), Query(inbox=str(store.inbox).encode()),
        Query(since_us=since, until_us=since + 100_000_000, labels=("no",)), Query(max_confidence=0.4),
    ]  # fmt: skip

    for query in queries:
        with closing(open_reader(store.path)) as reader:
            found = [row.id for row in rows(reader, query)]
        assert _totals(store, query)[:2] == (len(set(found)), len(found)), query


@pytest.mark.defects(36)
def test_count_and_summary_count_images_and_say_how_many_judgements(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    program = Program(store.path, capsys)

    ran = program("results", "--count")
    summary = json.loads(program("results", "--summary", "--format", "json").out)
    rows_of_one = program("results", "--count", "--model", "ffff")

    assert (ran.out, ran.err) == ("6\n", "6 images, 10 judgements by 2 models.\n")
    assert (rows_of_one.out, rows_of_one.err) == ("6\n", "")
    assert [(row["model"], row["class"], row["count"]) for row in summary] == [
        ("brain-mri 2.0 ffff0000", "no", 5),
        ("brain-mri 2.0 ffff0000", None, 1),
        ("brain-mri 1.0 a1b2c3d4", "yes", 4),
    ]


def test_a_page_does_not_wait_for_millions_to_be_told_apart(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.queries.totals, "_MOST", 1)

    with closing(open_reader(store.path)) as reader:
        hasty, patient = totals(reader, Query()), totals(reader, Query(), patient=True)
        one = totals(reader, Query(model="ffff"))

    assert hasty == Totals(images=None, judgements=10, models=2)
    assert counted(hasty) == "10 judgements by 2 models"
    assert patient.images == one.images == 6


@pytest.mark.slow
@pytest.mark.defects(36)
def test_a_terminal_is_told_of_images_and_judgements(store: Store) -> None:
    page = run_in_terminal("results", "--db", str(store.path), "--no-color", columns=120, rows=30)
    bars = run_in_terminal("results", "--summary", "--db", str(store.path), "--no-color")

    assert "\n10 results (6 images, 10 judgements by 2 models).\n" in page
    assert "\n6 images, 10 judgements by 2 models\n" in bars
    assert "brain-mri 1.0 a1b2c3d4\nyes" in bars
