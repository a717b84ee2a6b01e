"""Figures of a model come from the random sample, whatever was answered before; answers tell the rest."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import replace
from itertools import islice

import pytest

from storage.database import open_reader
from storage.query import Query, ReviewFilter
from storage.random_order import in_random_order
from storage.records import Outcome
from storage.reviews.review_figures import Measured, beside_card
from storage.reviews.review_rows import review_rows
from storage.reviews.review_writer import ReviewWriter
from storage.reviews.shares import Beside, Share, share
from storage.schema import ReviewOrigin
from tests.support.databases import Target
from tests.support.reviews import (
    AT_US,
    OTHER,
    SCORING,
    SKIP,
    answer_queue,
    figures_of,
    judged_as,
    open_scored,
    said,
    say,
)  # fmt: skip

pytestmark = pytest.mark.databases

DOUBTFUL = (ReviewOrigin.UNCERTAIN, ReviewOrigin.NEAR)
RANDOM = (ReviewOrigin.RANDOM,)


def counts(found: Share | None) -> tuple[int, int] | None:
    return None if found is None else (found.k, found.n)


def rates(measured: Measured) -> tuple[object, ...]:
    return tuple(counts(one) for one in (measured.sensitivity, measured.specificity, measured.accuracy))


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # R: prop.test(k, n, correct = FALSE)$conf.int
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (8, 10, 0.490162, 0.943318),
        (81, 263, 0.255286, 0.366211),
    ],
)
def test_interval_is_wilsons(k: int, n: int, low: float, high: float) -> None:
    found = share(k, n)

    assert found is not None
    assert [found.low, found.high] == pytest.approx([low, high], abs=2e-5)
    assert found.value == k / n
    assert share(0, 0) is None


def test_answers_are_compared_with_what_the_model_said(database: Target) -> None:
    store = open_scored(database, [0.9, 0.9, 0.1, 0.1, None, None, 0.9])
    say(
        store,
        said(1, "tumour"), said(2, "no_tumour"), said(3, "no_tumour"), said(4, OTHER), said(5, OTHER),
        said(6, "tumour"), said(7, SKIP), said(1, "tumour", "bob"), said(2, "tumour", "bob"),
    )  # fmt: skip

    [found] = figures_of(store)

    assert (found.answered, found.disputed, found.other_kind) == (6, 1, 2)
    assert (found.answers.images, found.answers.skipped) == (5, 1)
    assert counts(found.answers.agreement) == (3, 5)  # not of image 4, and not of image 6
    assert {name: counts(one) for name, one in found.answers.by_class.items()} == {
        "no_tumour": (1, 1), "tumour": (1, 2),
    }  # fmt: skip
    assert counts(found.answers.rejected_right) == (1, 2)
    assert counts(found.answers.wrongly_rejected) == (1, 3)
    assert rates(found.answers) == (None, None, None)
    store.close()


def test_answers_of_other_origins_alone_are_no_sample(database: Target) -> None:
    store = open_scored(database, [number / 100 for number in range(100)])
    answer_queue(store, DOUBTFUL, 100, lambda _: "tumour")

    [found] = figures_of(store)

    assert found.answers.images == 100
    assert (found.sample.images, found.sample.agreement, rates(found.sample)) == (0, None, (None,) * 3)
    store.close()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.databases("sqlite")
def test_sample_is_unbiased_though_the_doubtful_were_answered_first(database: Target, seed: int) -> None:
    """Of 3,000 images a tenth is in doubt, and the model wrong about half of those."""
    chance = random.Random(seed)
    scores = [chance.choice((0.03, 0.97) if chance.random() < 0.9 else (0.58, 0.62)) for _ in range(3_000)]
    wrong = [chance.random() < (0.5 if 0.5 < score < 0.7 else 0.03) for score in scores]
    truths = [
        "tumour" if (score >= 0.6) is not mistaken else "no_tumour"
        for score, mistaken in zip(scores, wrong, strict=True)
    ]
    store = open_scored(database, scores)

    answer_queue(store, DOUBTFUL, 320, lambda file_id: truths[file_id - 1])
    [first] = figures_of(store)
    answer_queue(store, RANDOM, 400, lambda file_id: truths[file_id - 1])

    [found] = figures_of(store)
    judged = list(zip(scores, truths, strict=True))
    sensitive = [score >= 0.6 for score, truth in judged if truth == "tumour"]
    specific = [score < 0.6 for score, truth in judged if truth == "no_tumour"]
    sample = found.sample
    assert sample.sensitivity is not None
    assert sample.specificity is not None
    assert sample.images > 400
    assert sample.sensitivity.place_of(sum(sensitive) / len(sensitive)) is Beside.WITHIN
    assert sample.specificity.place_of(sum(specific) / len(specific)) is Beside.WITHIN
    # What the answers to doubtful images would have made of it, were they taken for a sample.
    assert first.answers.by_class["tumour"].high < 0.7
    assert sum(sensitive) / len(sensitive) > 0.9
    store.close()


def test_sample_is_what_stands_before_the_last_random_one_and_nothing_behind_a_gap(database: Target) -> None:
    store = open_scored(database, [0.9] * 20)
    order = list(in_random_order(20))
    say(store, said(order[1], "tumour"), said(order[4], "tumour"), said(order[7], "tumour"))

    def in_sample() -> set[int]:
        with closing(open_reader(store.path)) as reader:
            return {order.index(row.file_id) for row in review_rows(reader) if row.in_sample}

    say(store, said(order[2], "tumour", origin=ReviewOrigin.RANDOM))
    before_the_gap_is_closed = in_sample()
    say(store, said(order[0], "tumour", origin=ReviewOrigin.RANDOM))
    closed = in_sample()
    say(store, said(order[3], SKIP, origin=ReviewOrigin.RANDOM), said(order[5], "tumour"))
    say(store, said(order[6], "tumour", origin=ReviewOrigin.RANDOM))

    assert before_the_gap_is_closed == set()
    assert closed == {0, 1, 2}
    assert in_sample() == {0, 1, 2, 3, 4, 5, 6}
    [found] = figures_of(store)
    assert (found.sample.images, found.sample.skipped) == (6, 1)
    store.close()


def test_image_of_the_sample_stays_in_it_when_it_is_answered_again(database: Target) -> None:
    store = open_scored(database, [0.9] * 5)
    [first, *_] = in_random_order(5)
    answer = said(first, "tumour", origin=ReviewOrigin.RANDOM)
    say(store, answer)
    ReviewWriter(str(store.path)).withdraw("ada", answer.request_id, AT_US)
    undone = figures_of(store)

    say(store, said(first, "no_tumour", origin=ReviewOrigin.CHOSEN))

    [found] = figures_of(store)
    assert undone == []
    assert (found.sample.images, rates(found.sample)) == (1, (None, (0, 1), (0, 1)))
    store.close()


def test_new_images_answered_for_their_doubt_do_not_slip_into_the_sample(database: Target) -> None:
    """A batch arrives while a reviewer still holds random ones; only its doubtful images are answered."""
    store = open_scored(database, [0.9] * 100)
    held = list(islice(in_random_order(100), 60))
    say(store, *(said(number, "tumour", origin=ReviewOrigin.RANDOM) for number in held[:50]))
    entries = store.add(*(b"new-%d.png" % number for number in range(100)))
    scores = [0.6] * 30 + [0.9] * 70
    store.ledger.record(
        [Outcome(entry.file_id, judged_as(score)) for entry, score in zip(entries, scores, strict=True)],
        store.model_id,
    )
    answer_queue(store, (ReviewOrigin.UNCERTAIN,), 100, lambda _: "no_tumour")

    say(store, *(said(number, "tumour", origin=ReviewOrigin.RANDOM) for number in held[50:]))

    [found] = figures_of(store)
    assert rates(found.sample)[1] is None
    store.close()


def test_what_was_said_of_one_models_answer_measures_the_next_one_too(database: Target) -> None:
    store = open_scored(database, [0.9, 0.1, 0.9, 0.1])
    say(
        store,
        *(said(number, "tumour", origin=ReviewOrigin.RANDOM) for number in in_random_order(4)),
    )
    better = store.ledger.model_id(replace(SCORING, weights_sha256="cd" * 32, version="2"))
    foreign = store.ledger.model_id(
        replace(SCORING, weights_sha256="ef" * 32, classes=("ms", "none"), positive="ms")
    )
    store.ledger.record([Outcome(number, judged_as(0.9)) for number in range(1, 5)], better)
    store.ledger.record([Outcome(number, judged_as(0.9)) for number in range(1, 5)], foreign)

    found = {one.weights_sha256[:2]: one for one in figures_of(store)}

    assert {weights: counts(one.sample.sensitivity) for weights, one in found.items()} == {
        "ab": (2, 4), "cd": (4, 4), "ef": None,
    }  # fmt: skip
    assert found["ef"].answered == 0
    store.close()


def test_weights_on_two_engines_are_one_model(database: Target) -> None:
    store = open_scored(database, [0.9, 0.1])
    other_engine = store.ledger.model_id(replace(SCORING, engine="torch"))
    store.ledger.record([Outcome(1, judged_as(0.1))], other_engine)
    say(store, said(1, "tumour"), said(2, "tumour"))

    [found] = figures_of(store)

    assert counts(found.answers.agreement) == (0, 2)  # by the later result
    store.close()


def test_rejected_image_counts_by_its_score_as_in_the_card(database: Target) -> None:
    store = open_scored(database, [None, 0.9])
    say(store, *(said(number, "tumour", origin=ReviewOrigin.RANDOM) for number in (1, 2)))

    [found] = figures_of(store)

    assert rates(found.sample) == ((1, 2), None, (1, 2))
    assert counts(found.sample.wrongly_rejected) == (1, 2)
    store.close()


def test_card_is_compared_where_both_have_the_figure(database: Target) -> None:
    store = open_scored(database, [0.9] * 18 + [0.1] * 2)
    say(store, *(said(number, "tumour", origin=ReviewOrigin.RANDOM) for number in range(1, 21)))
    [found] = figures_of(store)

    beside = beside_card(found.sample, {"sensitivity": 0.9, "specificity": 0.9, "accuracy": 0.5, "ece": 0.1})

    assert [(one.name, one.place) for one in beside] == [
        ("sensitivity", Beside.WITHIN), ("accuracy", Beside.BELOW),
    ]  # fmt: skip
    store.close()


def test_figures_are_narrowed_down_by_a_query(database: Target) -> None:
    store = open_scored(database, [0.9, 0.9, 0.1])
    say(store, said(1, "tumour"), said(2, "no_tumour"), said(3, "tumour"))

    found = [
        [one.answered for one in figures_of(store, query)]
        for query in (
            Query(labels=("tumour",)), Query(review=ReviewFilter.CORRECTED), Query(text="00002"),
            Query(since_us=AT_US * 2), Query(model="ab"), Query(model="zz"), Query(min_score=0.5),
        )
    ]  # fmt: skip

    assert found == [[2], [2], [1], [], [3], [], [2]]
    store.close()
