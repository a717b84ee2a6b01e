"""The queue asks for what is uncertain first, then what is near, then a random sample; nothing twice."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import replace

import pytest

from storage.database import open_reader
from storage.query import Query, ReviewFilter
from storage.random_order import order_key
from storage.records import FailureKind, Judged, Outcome, Status
from storage.reviews.answers import Review
from storage.reviews.review_queue import ORIGINS, ReviewWaiting, candidates, waiting
from storage.reviews.review_writer import ReviewWriter
from storage.schema import ReviewAnswer, ReviewOrigin
from tests.support.databases import Target
from tests.support.ledgers import MODEL, OTHER_MODEL, Store, open_store

pytestmark = pytest.mark.databases

AT_US = 1_790_000_100_000_000
DOUBTFUL = (ReviewOrigin.UNCERTAIN, ReviewOrigin.NEAR)


@pytest.fixture
def store(database: Target) -> Store:
    """Scores 0.00 to 0.99 with the threshold at 0.6 and uncertain from 0.55 to 0.65."""
    store = open_store(database)
    model = replace(MODEL, positive="tumour", threshold=0.6, uncertain_low=0.55, uncertain_high=0.65)
    store.model_id = store.ledger.model_id(model)
    for number, entry in enumerate(store.add(*(b"%02d.png" % number for number in range(100)))):
        score = number / 100
        status = Status.UNCERTAIN if 0.55 <= score < 0.65 else Status.OK
        label = "tumour" if score >= 0.6 else "no_tumour"
        store.judge([entry], Judged(status, label, max(score, 1 - score), score=score))
    return store


def asked(store: Store, limit: int, **more: object) -> list[tuple[str, bytes]]:
    with closing(open_reader(store.path)) as reader:
        found = candidates(reader, Query(), limit=limit, **more)  # type: ignore[arg-type]
    return [(one.origin.name, one.row.path) for one in found]


def answer(store: Store, file_id: int, answer: ReviewAnswer, origin: ReviewOrigin) -> None:
    label = "tumour" if answer is ReviewAnswer.CLASS else None
    one = Review(uuid.uuid4().bytes, file_id, "ab" * 32, "ada", answer, AT_US, origin, label)
    ReviewWriter(str(store.path)).add([one])


def test_uncertain_come_first_then_near_then_random(store: Store) -> None:
    names = asked(store, 16)

    assert [origin for origin, _ in names] == ["UNCERTAIN"] * 10 + ["NEAR"] * 6
    assert names[:3] == [("UNCERTAIN", b"60.png"), ("UNCERTAIN", b"59.png"), ("UNCERTAIN", b"61.png")]
    assert names[10:12] == [("NEAR", b"65.png"), ("NEAR", b"54.png")]
    store.close()


def test_random_ones_come_in_the_fixed_order_whatever_was_answered_and_leased(store: Store) -> None:
    order = sorted(range(1, 101), key=order_key)
    answer(store, order[1], ReviewAnswer.CLASS, ReviewOrigin.CHOSEN)

    names = asked(store, 3, origins=(ReviewOrigin.RANDOM,), without={order[0]})

    assert names == [("RANDOM", b"%02d.png" % (number - 1)) for number in order[2:5]]
    store.close()


def test_skipped_ones_come_again_when_nothing_else_is_left(store: Store) -> None:
    answer(store, 61, ReviewAnswer.SKIPPED, ReviewOrigin.UNCERTAIN)

    names = asked(store, 10, origins=(ReviewOrigin.UNCERTAIN,))

    assert len(names) == 10
    assert names[-1] == ("UNCERTAIN", b"60.png")
    store.close()


def test_each_image_is_offered_once(store: Store) -> None:
    names = asked(store, 1_000)

    assert sorted(path for _, path in names) == [b"%02d.png" % number for number in range(100)]
    assert set(ORIGINS) == {ReviewOrigin[origin] for origin in ("UNCERTAIN", "NEAR", "RANDOM")}
    store.close()


def test_what_waits_is_counted(store: Store) -> None:
    answer(store, 61, ReviewAnswer.CLASS, ReviewOrigin.UNCERTAIN)
    answer(store, 60, ReviewAnswer.SKIPPED, ReviewOrigin.UNCERTAIN)
    answer(store, 1, ReviewAnswer.OTHER_KIND, ReviewOrigin.CHOSEN)

    with closing(open_reader(store.path)) as reader:
        assert waiting(reader, Query(review=ReviewFilter.NONE)) == ReviewWaiting(9, 2, 0)
    store.close()


def test_random_ones_of_a_model_that_judged_few_are_found_without_a_long_search(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.reviews.sample._PATIENCE", 5)
    monkeypatch.setattr("storage.reviews.sample._FIRST_LOOK", 4)
    few = sorted((3, 50, 97, 98), key=order_key)
    judged = Judged(Status.OK, "tumour", 0.9, score=0.9)
    other = store.ledger.model_id(OTHER_MODEL)
    store.ledger.record([Outcome(number, judged) for number in few], other)
    answer(store, few[1], ReviewAnswer.CLASS, ReviewOrigin.CHOSEN)

    with closing(open_reader(store.path)) as reader:
        asked = {
            model: candidates(reader, Query(model=model), origins=(ReviewOrigin.RANDOM,), limit=9)
            for model in (None, OTHER_MODEL.weights_sha256[:16], "ab" * 32)
        }

    found = {model: [one.row.id for one in rows] for model, rows in asked.items()}
    latest = [few[0], *few[2:]]
    assert found[None] == found[OTHER_MODEL.weights_sha256[:16]] == latest
    assert {one.row.weights_sha256 for one in asked[None]} == {OTHER_MODEL.weights_sha256}
    assert len(found["ab" * 32]) == 9
    store.close()


@pytest.mark.slow
def test_overwritten_and_broken_images_are_offered_to_nobody(store: Store) -> None:
    store.ledger.add([store.version(b"60.png", size=8_000)])
    [broken] = store.add(b"broken.png")
    store.fail(broken, FailureKind.PERMANENT, "no image")

    names = [path for _, path in asked(store, 1_000)]

    assert len(names) == 99
    assert b"60.png" not in names
    assert b"broken.png" not in names
    store.close()


@pytest.mark.slow
def test_filters_narrow_what_is_in_doubt_and_leave_the_random_sample_what_it_is(store: Store) -> None:
    with closing(open_reader(store.path)) as reader:
        doubtful = candidates(reader, Query(labels=("tumour",)), limit=9, origins=DOUBTFUL)
        drawn = candidates(reader, Query(labels=("tumour",)), limit=9, origins=(ReviewOrigin.RANDOM,))
        everything = candidates(reader, Query(), limit=9, origins=(ReviewOrigin.RANDOM,))

    assert {one.row.label for one in doubtful} == {"tumour"}
    assert drawn == everything
    store.close()
