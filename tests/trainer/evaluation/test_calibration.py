"""Probabilities that mean what they say, and a threshold for a stated sensitivity."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation.calibration import (
    fit_decision,
    fit_pooled_decision,
    fit_shift,
    fit_temperature,
    positive_class,
)
from trainer.evaluation.ood import SliceFeatures, fit_out_of_distribution
from trainer.model.prediction import distances, probabilities


def _logits(count: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    draw_from = np.random.default_rng(0)
    margin = draw_from.normal(0, 2, count)
    labels = (draw_from.random(count) < 1 / (1 + np.exp(-margin))).astype(np.int64)
    return np.stack((np.zeros(count), margin * sharpness), axis=1).astype(np.float32), labels


def test_the_temperature_undoes_overconfidence() -> None:
    logits, labels = _logits(20_000, sharpness=3.0)

    assert fit_temperature(logits, labels) == pytest.approx(3.0, rel=0.1)


def test_the_threshold_reaches_the_stated_sensitivity_by_its_lower_bound() -> None:
    logits, labels = _logits(4_000, sharpness=1.0)

    decision = fit_decision(logits, labels, ("no", "yes"), 0.95)

    scores = 1 / (1 + np.exp(-(logits[:, 1] - logits[:, 0]) / decision.temperature))
    assert (scores[labels == 1] >= decision.threshold).mean() > 0.95
    assert decision.uncertain_low < decision.threshold < decision.uncertain_high


def test_the_class_that_means_found_is_known_by_its_name() -> None:
    assert positive_class(("no", "yes")) == "yes"
    assert positive_class(("tumour", "zebra")) == "tumour"
    assert positive_class(("a", "b")) == "b"
    assert positive_class(("a", "b", "c")) is None


def test_the_distance_limit_lets_the_stated_share_pass_and_stops_what_is_far() -> None:
    draw_from = np.random.default_rng(0)
    train, held_out = (draw_from.normal(0, 1, (600, 24)).astype(np.float32) for _ in range(2))
    labels, source = np.arange(600) % 2, np.zeros(600, dtype=np.int64)

    limit, tensors = fit_out_of_distribution(
        SliceFeatures(train, labels, source), SliceFeatures(held_out, labels, source), 0.99
    )

    assert (distances(held_out, tensors) <= limit.max_distance).mean() == pytest.approx(0.99, abs=0.005)
    assert (distances(held_out + 8, tensors) > limit.max_distance).all()


def test_shifted_logits_give_each_class_its_share() -> None:
    chance = np.random.default_rng(0)
    labels = (chance.random(2000) < 0.3).astype(np.int64)
    logits = chance.normal(0, 1, (2000, 2)).astype(np.float32)
    logits[np.arange(2000), labels] += 1.5
    logits[:, 1] += 2  # as if positives had been shown too often

    shift = fit_shift(logits, labels)

    means = probabilities(logits + shift, 1.0).mean(axis=0)
    np.testing.assert_allclose(means, [1 - labels.mean(), labels.mean()], atol=1e-3)
    assert shift[1] < shift[0]


def test_a_class_without_labels_keeps_its_logits() -> None:
    logits = np.random.default_rng(1).normal(0, 1, (50, 3)).astype(np.float32)

    shift = fit_shift(logits, np.arange(50) % 2)

    assert np.isfinite(shift).all()
    assert shift[2] == 0


def test_a_pooled_decision_lies_where_sensitivity_and_specificity_together_are_greatest() -> None:
    logits, labels = _logits(20_000, sharpness=3.0)
    # A second source of which every image seems more likely to be a tumour than it is, and counts as much.
    second, others = _logits(2_000, sharpness=3.0)
    second[:, 1] += 4
    weights = np.concatenate((np.full(20_000, 1 / 20_000), np.full(2_000, 1 / 2_000)))

    decision = fit_pooled_decision(
        np.concatenate((logits, second)), np.concatenate((labels, others)), weights, ("no", "yes")
    )

    truth = np.concatenate((labels, others)) == 1
    likely = probabilities(np.concatenate((logits, second)), decision.temperature)[:, 1]

    def gained(threshold: float) -> float:
        given = likely >= threshold
        return float(
            np.average(given[truth], weights=weights[truth])
            - np.average(given[~truth], weights=weights[~truth])
        )

    best = max(gained(threshold) for threshold in np.linspace(0.02, 0.98, 97))
    assert gained(decision.threshold) > best - 0.002
    assert decision.threshold > 0.55  # the second source is told right only beyond one half
    assert decision.uncertain_low < decision.threshold < decision.uncertain_high
    assert decision.uncertain_high - decision.threshold <= 0.15 + 1e-9


def test_a_pooled_decision_for_several_classes_has_no_threshold() -> None:
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]

    decision = fit_pooled_decision(logits, np.array([0, 1, 2, 0, 1, 1]), np.ones(6), ("a", "b", "c"))

    assert decision.positive is None
