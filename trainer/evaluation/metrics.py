"""Classification metrics, each with a 95 % interval that respects groups.

The interval is a bootstrap over groups (patients, near-duplicates), not over images: images of one
group stand or fall together (Field and Welsh 2007, "Bootstrapping clustered data").
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    roc_auc_score,
    roc_curve,
)

from trainer.evaluation.bootstrap import BINS, TINY, calibration_bins, group_weights, resampled_figures
from trainer.images.arrays import Doubles, Ints

_REPEATS = 400
# The share of healthy images that must be told right where sensitivities are compared.
_SPECIFICITY = 0.95


def measure(
    scores: Doubles, truth: Ints, groups: Ints, threshold: float, *, seed: int = 0, repeats: int = _REPEATS
) -> dict[str, Any]:
    """Return every figure for two classes as {name: {value, low, high}}, with counts and confusion matrix.

    `scores` (n,) are probabilities of the positive class, `truth` (n,) 0 or 1, `groups` (n,) numbers.
    A figure that does not exist (sensitivity without positives) is None.
    """
    scores = np.asarray(scores, dtype=np.float64)
    weights = group_weights(groups, repeats, seed)
    draws = resampled_figures(scores, truth, threshold, weights)
    report: dict[str, Any] = {"count": len(truth), "groups": len(np.unique(groups)), "threshold": threshold}
    for name, value in _figures(scores, truth, threshold).items():
        spread = draws[name][~np.isnan(draws[name])]
        low, high = np.percentile(spread, (2.5, 97.5)) if len(spread) else (np.nan, np.nan)
        report[name] = {"value": _number(value), "low": _number(low), "high": _number(high)}
    given = (scores >= threshold).astype(np.int64)
    report["confusion"] = confusion_matrix(truth, given, labels=[0, 1]).tolist()
    return report


def measure_classes(probabilities: Doubles, truth: Ints, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return accuracy, log-loss, and per class recall, precision and confusion, for many classes."""
    given = probabilities.argmax(axis=1)
    table = confusion_matrix(truth, given, labels=np.arange(len(classes)))
    chosen = np.clip(probabilities[np.arange(len(truth)), truth], TINY, 1)
    recall = _ratio(np.diag(table), table.sum(axis=1))
    return {
        "count": len(truth),
        "accuracy": {"value": float((given == truth).mean())},
        "log_loss": {"value": float(-np.log(chosen).mean())},
        "balanced_accuracy": {"value": _number(float(np.nanmean(recall)))},
        "recall": {name: _number(value) for name, value in zip(classes, recall, strict=True)},
        "precision": {
            name: _number(value)
            for name, value in zip(classes, _ratio(np.diag(table), table.sum(axis=0)), strict=True)
        },
        "confusion": table.tolist(),
    }


def roc_auc(scores: Doubles, truth: Ints) -> float:
    """Return the area under the ROC curve; nan if there is one class only."""
    return float(roc_auc_score(truth, scores)) if 0 < truth.sum() < len(truth) else float("nan")


def pooled_over_sources(scores: Doubles, truth: Ints, sources: Ints) -> dict[str, float | None]:
    """Return ROC AUC and sensitivity at specificity 0.95 of scores (n,), sources (n,) weighing the same.

    Within each class, so that the largest source does not decide alone; None where a class is missing.
    """
    return ranking(scores, truth, balanced_weights(truth, sources))


def ranking(scores: Doubles, truth: Ints, weights: Doubles | None = None) -> dict[str, float | None]:
    """Return ROC AUC and sensitivity at specificity 0.95 of scores (n,) that count by weights (n,).

    None where a class is missing.
    """
    if not 0 < truth.sum() < len(truth):
        return {"roc_auc": None, "sensitivity_at_specificity_0.95": None}
    false_alarms, found, _ = roc_curve(truth, scores, sample_weight=weights, drop_intermediate=False)
    within = false_alarms <= 1 - _SPECIFICITY + 1e-9
    return {
        "roc_auc": round(float(roc_auc_score(truth, scores, sample_weight=weights)), 4),
        "sensitivity_at_specificity_0.95": round(float(found[within].max()), 4),
    }


def balanced_weights(truth: Ints, sources: Ints) -> Doubles:
    """Return weights (n,), in all 1, by which every class of every source counts the same."""
    pairs = np.unique(np.stack((sources, truth), axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(pairs)
    return np.asarray(1 / (counts[pairs] * len(counts)), dtype=np.float64)


def average_precision(scores: Doubles, truth: Ints) -> float:
    """Return the area under the precision-recall curve, as a sum over its steps; nan without positives."""
    return float(average_precision_score(truth, scores)) if truth.any() else float("nan")


def calibration_error(scores: Doubles, truth: Ints) -> float:
    """Return the expected calibration error over equal-width bins (Naeini et al. 2015)."""
    excess = np.bincount(calibration_bins(scores), weights=scores - truth, minlength=BINS)
    return float(np.abs(excess).sum() / max(1, len(scores)))


def _figures(scores: Doubles, truth: Ints, threshold: float) -> dict[str, float]:
    """Return every figure of probabilities (n,) for the truth (n,), nan for those that do not exist."""
    given = (scores >= threshold).astype(np.int64)
    table = confusion_matrix(truth, given, labels=[0, 1])
    (correct_no, false_alarms), (missed, hits) = table
    held = np.clip(scores, TINY, 1 - TINY)
    rates = _ratio(
        np.array([hits, correct_no, hits, 2 * hits]),
        np.array([hits + missed, correct_no + false_alarms, hits + false_alarms, given.sum() + truth.sum()]),
    )
    return {
        "accuracy": accuracy_score(truth, given),
        **dict(zip(("sensitivity", "specificity", "precision", "f1"), rates.tolist(), strict=True)),
        "roc_auc": roc_auc(scores, truth),
        "pr_auc": average_precision(scores, truth),
        "brier": brier_score_loss(truth, scores, pos_label=1),
        "log_loss": log_loss(truth, held, labels=[0, 1]),
        "ece": calibration_error(scores, truth),
    }


def _ratio(part: Ints, whole: Ints) -> Doubles:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part / whole, dtype=np.float64)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
