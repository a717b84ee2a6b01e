"""A volume's answer is that of its best three neighbours: one odd slice is not a finding."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.model.aggregate import combine
from trainer.model.prediction import Prediction, Verdict, conclude
from trainer.model.spec import Decision, ModelSpec

SPEC = ModelSpec(
    name="test",
    version="1",
    architecture="small",
    classes=("no tumour", "tumour"),
    decision=Decision(positive="tumour", threshold=0.6, uncertain_low=0.55, uncertain_high=0.65),
)
REJECTED = Prediction(Verdict.REJECTED, None, None, (0.0, 1.0), 99.0)


def slices(*scores: float) -> list[Prediction]:
    return [conclude(np.array([1 - score, score], np.float32), SPEC, None) for score in scores]


def test_three_neighbours_that_agree_decide() -> None:
    answer, index = combine(slices(0.1, 0.8, 0.9, 0.7, 0.1), [3, 4, 5, 6, 7], SPEC)

    assert (answer.label, answer.verdict, index) == ("tumour", Verdict.OK, 5)
    assert answer.confidence == pytest.approx(0.8)
    assert sum(answer.probabilities) == pytest.approx(1)


def test_a_lone_slice_is_not_enough() -> None:
    answer, index = combine(slices(*[0.05] * 10, 0.99, *[0.05] * 10), range(21), SPEC)

    assert (answer.label, index) == ("no tumour", 10)


def test_volume_without_a_finding_is_negative_and_names_its_most_suspicious_slice() -> None:
    answer, index = combine(slices(0.02, 0.1, 0.2, 0.1, 0.02), range(0, 50, 10), SPEC)

    assert (answer.label, index) == ("no tumour", 20)
    assert answer.confidence == pytest.approx(1 - 0.4 / 3)


def test_mean_inside_the_band_is_uncertain() -> None:
    answer, _ = combine(slices(0.6, 0.6, 0.6), range(3), SPEC)

    assert answer.verdict == Verdict.UNCERTAIN


def test_rejected_slices_have_no_vote() -> None:
    answer, index = combine([REJECTED, *slices(0.1, 0.2), REJECTED], range(4), SPEC)

    assert (answer.label, index) == ("no tumour", 2)


def test_volume_of_rejected_slices_is_rejected_at_its_nearest() -> None:
    near = Prediction(Verdict.REJECTED, None, None, (0.5, 0.5), 42.0)

    assert combine([REJECTED, near, REJECTED], [7, 8, 9], SPEC) == (near, 8)


def test_single_slice_is_its_own_answer() -> None:
    (only,) = slices(0.7)

    assert combine([only], [0], SPEC) == (only, 0)


def test_two_slices_are_averaged() -> None:
    answer, index = combine(slices(0.9, 0.5), [0, 1], SPEC)

    assert (answer.label, index) == ("tumour", 0)
    assert answer.probabilities[1] == pytest.approx(0.7)


def test_without_a_positive_class_the_mean_decides() -> None:
    spec = ModelSpec(name="test", version="1", architecture="small", classes=("a", "b", "c"))
    rows = [[0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.9, 0.05, 0.05]]
    predictions = [conclude(np.array(row, np.float32), spec, None) for row in rows]

    answer, index = combine(predictions, [4, 5, 6], spec)

    assert (answer.label, index) == ("b", 5)


def test_order_of_the_volume_does_not_matter() -> None:
    scores = np.random.default_rng(3).random(30)
    forwards, index = combine(slices(*scores), range(30), SPEC)

    backwards, mirrored = combine(slices(*scores[::-1]), range(29, -1, -1), SPEC)

    assert mirrored == index
    assert backwards.confidence == pytest.approx(forwards.confidence)
