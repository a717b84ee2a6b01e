"""A volume's answer is that of its slices by the series rule: one odd slice is not a finding."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from trainer.model.aggregate import combine
from trainer.model.prediction import Prediction, Verdict, conclude
from trainer.model.series_rule import SeriesRule
from trainer.model.spec import Decision, ModelSpec, SeriesDecision

SPEC = ModelSpec(
    name="test",
    version="1",
    architecture="small",
    classes=("no tumour", "tumour"),
    decision=Decision(positive="tumour", threshold=0.6, uncertain_low=0.55, uncertain_high=0.65),
)
FITTED = replace(
    SPEC, series=SeriesDecision(scale=2.0, offset=-1.0, threshold=0.7, uncertain_low=0.6, uncertain_high=0.8)
)
REJECTED = Prediction(Verdict.REJECTED, None, None, (0.0, 1.0), 99.0)


def slices(*scores: float, spec: ModelSpec = SPEC) -> list[Prediction]:
    return [conclude(np.array([1 - score, score], np.float32), spec, None) for score in scores]


def test_the_loudest_slices_decide_and_the_loudest_is_named() -> None:
    combined = combine(slices(0.1, 0.8, 0.9, 0.7, 0.1), [3, 4, 5, 6, 7], SPEC)

    answer = combined.prediction
    assert (answer.label, answer.verdict, combined.decisive) == ("tumour", Verdict.OK, 5)
    assert answer.confidence == pytest.approx(0.857, abs=0.01)  # the sigmoid of the mean logit of 0.9 and 0.8
    assert sum(answer.probabilities) == pytest.approx(1)


def test_a_fitted_decision_about_series_decides() -> None:
    scores = (0.7, 0.7, 0.3)

    plain, fitted = (
        combine(slices(*scores, spec=spec), range(3), spec).prediction for spec in (SPEC, FITTED)
    )

    assert (plain.label, plain.verdict) == ("tumour", Verdict.OK)
    assert (fitted.label, fitted.verdict) == ("no tumour", Verdict.UNCERTAIN)


@pytest.mark.parametrize("spec", [SPEC, FITTED])
def test_a_lone_slice_is_not_enough(spec: ModelSpec) -> None:
    combined = combine(slices(*[0.05] * 10, 0.99, *[0.05] * 10), range(21), spec)

    assert (combined.prediction.label, combined.decisive) == ("no tumour", 10)


def test_volume_without_a_finding_is_negative_and_names_its_most_suspicious_slice() -> None:
    combined = combine(slices(0.02, 0.1, 0.2, 0.1, 0.02), range(0, 50, 10), SPEC)

    answer = combined.prediction
    assert (answer.label, combined.decisive) == ("no tumour", 20)
    assert answer.confidence == pytest.approx(1 - 0.143, abs=0.01)
    assert answer.probabilities[1] == pytest.approx(1 - (answer.confidence or 0))


def test_mean_inside_the_band_is_uncertain() -> None:
    assert combine(slices(0.6, 0.6, 0.6), range(3), SPEC).prediction.verdict == Verdict.UNCERTAIN


def test_rejected_slices_have_no_vote() -> None:
    combined = combine([REJECTED, *slices(0.1, 0.2), REJECTED], range(4), SPEC)

    rule = SeriesRule.of(SPEC)
    assert (combined.prediction.label, combined.decisive, combined.rejected) == ("no tumour", 2, 2)
    assert combined.votes == Counter(rule.vote("no tumour", score) for score in (0.1, 0.2))


def test_volume_of_rejected_slices_is_rejected_at_its_nearest() -> None:
    near = Prediction(Verdict.REJECTED, None, None, (0.5, 0.5), 42.0)

    combined = combine([REJECTED, near, REJECTED], [7, 8, 9], SPEC)

    assert (combined.prediction, combined.decisive) == (near, 8)
    assert (combined.votes, combined.rejected) == ({}, 3)


@pytest.mark.parametrize("score", [0.7, 0.5999, 0.6001])
@pytest.mark.parametrize("spec", [SPEC, FITTED])
def test_single_slice_is_its_own_answer(score: float, spec: ModelSpec) -> None:
    (only,) = slices(score, spec=spec)

    combined = combine([only], [0], spec)

    assert (combined.prediction, combined.decisive) == (only, 0)
    assert sum(combined.votes.values()) == 1


def test_the_louder_of_two_slices_is_half_of_them() -> None:
    combined = combine(slices(0.9, 0.5), [0, 1], SPEC)

    assert (combined.prediction.label, combined.decisive) == ("tumour", 0)
    assert combined.prediction.probabilities[1] == pytest.approx(0.9, abs=0.01)


def test_without_a_positive_class_the_surest_answer_wins() -> None:
    spec = ModelSpec(name="test", version="1", architecture="small", classes=("a", "b", "c"))
    rows = [[0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.9, 0.05, 0.05]]
    predictions = [conclude(np.array(row, np.float32), spec, None) for row in rows]

    combined = combine(predictions, [4, 5, 6], spec)

    assert (combined.prediction.label, combined.decisive) == ("b", 5)
    assert sum(combined.prediction.probabilities) == pytest.approx(1)


def test_probabilities_add_up_to_one_after_slices_as_sure_as_can_be() -> None:
    """In 32 bits such a slice leaves nothing to its other class, of which the volume's is made."""
    combined = combine(slices(1.0, 1.0, 0.3), range(3), SPEC)

    answer = combined.prediction
    assert sum(answer.probabilities) == pytest.approx(1)
    assert answer.probabilities[0] > 0


def test_the_votes_of_files_together_are_those_of_the_whole_volume() -> None:
    """A series as a file a slice and as one volume comes to the same answer."""
    scores = np.random.default_rng(5).random(22).tolist()
    rule = SeriesRule.of(FITTED)
    volume = combine(slices(*scores, spec=FITTED), range(22), FITTED)

    files: Counter[int] = Counter()
    for one in slices(*scores, spec=FITTED):
        files.update(combine([one], [0], FITTED).votes)
    answer = rule.conclude(files)

    assert files == volume.votes
    assert answer is not None
    assert (answer.label, answer.verdict) == (volume.prediction.label, volume.prediction.verdict)
    assert answer.score == volume.prediction.score(FITTED)


def test_order_of_the_volume_does_not_matter() -> None:
    scores = np.random.default_rng(3).random(30)
    forwards = combine(slices(*scores), range(30), SPEC)

    backwards = combine(slices(*scores[::-1]), range(29, -1, -1), SPEC)

    assert backwards == forwards
