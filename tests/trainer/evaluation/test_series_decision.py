"""The decision about series: calibrated where half show a tumour, by patients that count the same."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation.series_decision import (
    decided_out_of_fold,
    fit_series_decision,
    folds_of_patients,
    threshold_between,
)
from trainer.evaluation.slices import Parts, Slices, patient_weights
from trainer.images.arrays import Doubles, Ints
from trainer.model.series_rule import SeriesRule
from trainer.model.spec import Decision, SeriesDecision


def _series(count: int, seed: int, *, length: int = 24, apart: float = 1.5) -> list[Slices]:
    """Return series of as many patients with a tumour, in a third of the slices, as without."""
    rng, series = np.random.default_rng(seed), []
    for number in range(2 * count):
        tumours = np.zeros(length, dtype=bool)
        if number % 2:
            start = int(rng.integers(0, length - length // 3))
            tumours[start : start + length // 3] = True
        logits = rng.normal(np.where(tumours, apart, -apart), 1.2) + rng.normal(0, 0.5)
        scores = 1 / (1 + np.exp(-logits))
        series.append(Slices(f"p{number}", scores, tumours, bool(tumours.any())))
    return series


def _fitted(series: list[Slices], share: float = 0.5) -> SeriesDecision:
    decision = fit_series_decision(Parts.of(series), share)
    assert decision is not None
    return decision


def _judged(decision: SeriesDecision, series: list[Slices]) -> Doubles:
    rule = SeriesRule(("no", "yes"), Decision(positive="yes"), decision)
    return np.array([rule.of_scores(one.scores.tolist()).score for one in series], dtype=np.float64)


def test_other_patients_are_told_apart_with_probabilities_that_are_true() -> None:
    decision, others = _fitted(_series(60, 0)), _series(100, 1)

    likely, truth = _judged(decision, others), np.array([one.has_tumour for one in others])

    given = likely >= decision.threshold
    assert given[truth].mean() > 0.8
    assert (~given[~truth]).mean() > 0.8
    assert likely.mean() == pytest.approx(0.5, abs=0.1)
    surest = likely > 0.9
    assert truth[surest].mean() > 0.85
    assert decision.uncertain_low <= decision.threshold <= decision.uncertain_high


def test_patients_count_the_same_however_many_series_they_have() -> None:
    series = _series(30, 2)
    noisy = [Slices("q", np.full(24, 0.999), np.zeros(24, dtype=bool), has_tumour=False)] * 100

    once, often = _fitted([*series, *noisy[:1]]), _fitted([*series, *noisy])

    assert often.scale == pytest.approx(once.scale, rel=0.01)
    assert often.threshold == pytest.approx(once.threshold, abs=0.03)


def test_series_and_blocks_with_and_without_a_tumour_weigh_the_same() -> None:
    parts = Parts.of(_series(20, 3))

    sums = [
        parts.weights[(parts.is_block == block) & (parts.truth == kind)].sum()
        for block in (False, True)
        for kind in (False, True)
    ]

    assert sums == pytest.approx([0.25] * 4)


def test_weights_are_equal_for_strata_then_patients_then_parts() -> None:
    weights = patient_weights(np.array([0, 0, 0, 1]), np.array([1, 1, 2, 1]))

    assert weights.tolist() == pytest.approx([0.125, 0.125, 0.25, 0.5])


@pytest.mark.parametrize(("count", "apart"), [(4, 1.5), (60, 0.0), (60, -1.5)])
def test_too_few_patients_or_scores_that_tell_nothing_give_no_decision(count: int, apart: float) -> None:
    series = _series(count, 4, apart=apart)
    if apart == 0:  # nothing but chance may tell them apart: every patient with a tumour has a twin without
        series = [
            Slices(f"{one.patient}{kind}", one.scores, np.full(24, kind), kind)
            for one in series
            for kind in (False, True)
        ]

    assert fit_series_decision(Parts.of(series), 0.5) is None


def test_a_threshold_lies_between_two_values() -> None:
    values, truth = np.array([0.1, 0.2, 0.7, 0.9]), np.array([False, False, True, True])

    assert threshold_between(values, truth, np.full(4, 0.25)) == pytest.approx(0.45)


def test_no_patient_is_on_both_sides_and_everyone_is_judged_once() -> None:
    parts = Parts.of(_series(20, 5))

    judged = []
    for learnt, some in folds_of_patients(parts.truth, parts.patients):
        assert not set(parts.patients[learnt]) & set(parts.patients[some])
        judged += some.tolist()

    assert sorted(judged) == list(range(len(parts.members)))


def test_what_is_judged_has_no_part_in_its_threshold() -> None:
    truth, patients = np.tile([False, True], 20), np.arange(40)
    seen: list[set[int]] = []

    def fitted(learnt: Ints) -> Doubles:
        seen.append(set(learnt.tolist()))
        values = np.zeros(40)
        values[learnt] = truth[learnt]  # what was learnt from is known by heart, the rest is not known
        return values

    _, decided = decided_out_of_fold(fitted, truth, patients, np.full(40, 1 / 40))

    assert len(seen) == 5
    assert not decided.any()
