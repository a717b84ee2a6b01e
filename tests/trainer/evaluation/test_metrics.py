"""The figures a model is judged by, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation.bootstrap import group_weights, resampled_figures
from trainer.evaluation.metrics import average_precision, calibration_error, measure, measure_classes, roc_auc

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.3, 0.2])
TRUTH = np.array([1, 1, 0, 1, 0, 0])
GROUPS = np.arange(6)


def test_every_figure_has_its_textbook_value() -> None:
    report = measure(SCORES, TRUTH, GROUPS, 0.65)

    assert report["accuracy"]["value"] == pytest.approx(4 / 6, abs=1e-6)
    assert report["sensitivity"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert report["specificity"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert report["precision"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert report["f1"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert report["roc_auc"]["value"] == pytest.approx(8 / 9, abs=1e-6)
    assert report["brier"]["value"] == pytest.approx(np.mean((SCORES - TRUTH) ** 2), abs=1e-6)
    assert report["confusion"] == [[2, 1], [1, 2]]


def test_equal_scores_count_half_in_the_auc() -> None:
    assert roc_auc(np.array([0.5, 0.5]), np.array([0, 1])) == 0.5
    assert roc_auc(np.array([0.1, 0.5, 0.5, 0.9]), np.array([0, 0, 1, 1])) == pytest.approx(0.875)


def test_average_precision_is_the_mean_precision_at_each_hit() -> None:
    assert average_precision(SCORES, TRUTH) == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_what_does_not_exist_is_none_and_not_a_number() -> None:
    report = measure(np.array([0.2, 0.3]), np.array([0, 0]), np.arange(2), 0.5)

    assert report["sensitivity"]["value"] is None
    assert report["roc_auc"]["value"] is None
    assert report["specificity"]["value"] == 1.0


def test_probabilities_that_mean_what_they_say_have_no_calibration_error() -> None:
    scores = np.repeat([0.1, 0.9], 10)
    truth = np.array([1] + [0] * 9 + [1] * 9 + [0])

    assert calibration_error(scores, truth) == pytest.approx(0.0, abs=1e-9)
    assert calibration_error(np.repeat(0.9, 10), np.zeros(10, dtype=int)) == pytest.approx(0.9)


def test_the_interval_of_one_large_group_is_wider_than_that_of_many_small_ones() -> None:
    draw_from = np.random.default_rng(1)
    scores, truth = draw_from.random(400), draw_from.integers(0, 2, 400)

    alone = measure(scores, truth, np.arange(400), 0.5)["accuracy"]
    joined = measure(scores, truth, np.arange(400) // 40 + truth * 0, 0.5)["accuracy"]

    assert alone["low"] < alone["value"] < alone["high"]
    assert joined["low"] < joined["value"] < joined["high"]


def test_three_classes_have_recall_and_precision_each() -> None:
    shares = np.eye(3)[[0, 0, 1, 2]] * 0.8 + 0.05
    report = measure_classes(shares, np.array([0, 1, 1, 2]), ("a", "b", "c"))

    assert report["accuracy"]["value"] == 0.75
    assert report["recall"] == {"a": 1.0, "b": 0.5, "c": 1.0}
    assert report["precision"] == {"a": 0.5, "b": 1.0, "c": 1.0}


def test_resampled_figures_are_those_of_the_images_repeated() -> None:
    rng = np.random.default_rng(2)
    truth, groups = rng.integers(0, 2, 60), rng.integers(0, 25, 60)
    scores = rng.integers(0, 20, 60) / 20  # many equal ones
    weights = group_weights(groups, 4, seed=5)

    figures = resampled_figures(scores, truth, 0.5, weights)

    for row, repeated in enumerate(weights):
        again = np.repeat(np.arange(60), repeated)
        report = measure(scores[again], truth[again], groups[again], 0.5, repeats=1)
        for name, values in figures.items():
            assert values[row] == pytest.approx(report[name]["value"], abs=1e-6)


def test_resamples_hold_whole_groups() -> None:
    groups = np.array([0, 0, 1, 2, 2, 2])

    weights = group_weights(groups, 50, seed=0)

    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3:] == weights[:, 3:4]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
