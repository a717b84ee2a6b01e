"""Classification metrics, each with a 95 % interval that respects groups.

The interval is a bootstrap over groups (patients, near-duplicates), not over images: images of one
group stand or fall together (Field and Welsh 2007, "Bootstrapping clustered data").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from trainer.images.arrays import Bools, Doubles, Ints

_REPEATS = 400
_BINS = 15
_TINY = 1e-7


def measure(
    scores: Doubles, truth: Ints, groups: Ints, threshold: float, *, seed: int = 0, repeats: int = _REPEATS
) -> dict[str, Any]:
    """Return every figure for two classes as {name: {value, low, high}}, with counts and confusion matrix.

    `scores` (n,) are probabilities of the positive class, `truth` (n,) 0 or 1, `groups` (n,) numbers.
    A figure that does not exist (sensitivity without positives) is None.
    """
    scores = np.asarray(scores, dtype=np.float64)
    values = {name: figure(scores, truth, threshold) for name, figure in FIGURES.items()}
    draws = _bootstrap(scores, truth, groups, threshold, seed, repeats)
    report: dict[str, Any] = {"count": len(truth), "groups": len(np.unique(groups)), "threshold": threshold}
    for name, value in values.items():
        spread = draws[name][~np.isnan(draws[name])]
        low, high = np.percentile(spread, (2.5, 97.5)) if len(spread) else (np.nan, np.nan)
        report[name] = {"value": _number(value), "low": _number(low), "high": _number(high)}
    said = (scores >= threshold).astype(np.int64)
    report["confusion"] = confusion(truth, said, 2).tolist()
    return report


def measure_classes(probabilities: Doubles, truth: Ints, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return accuracy, log-loss, and per class recall, precision and confusion, for many classes."""
    said = probabilities.argmax(axis=1)
    table = confusion(truth, said, len(classes))
    chosen = np.clip(probabilities[np.arange(len(truth)), truth], _TINY, 1)
    recall = _ratio(np.diag(table), table.sum(axis=1))
    return {
        "count": len(truth),
        "accuracy": {"value": float((said == truth).mean())},
        "log_loss": {"value": float(-np.log(chosen).mean())},
        "balanced_accuracy": {"value": _number(float(np.nanmean(recall)))},
        "recall": {name: _number(value) for name, value in zip(classes, recall, strict=True)},
        "precision": {
            name: _number(value)
            for name, value in zip(classes, _ratio(np.diag(table), table.sum(axis=0)), strict=True)
        },
        "confusion": table.tolist(),
    }


def confusion(truth: Ints, said: Ints, classes: int) -> Ints:
    """Return the matrix (classes, classes) of counts: rows what it is, columns what was said."""
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (truth, said), 1)
    return table


def roc_auc(scores: Doubles, truth: Ints) -> float:
    """Return the area under the ROC curve: the chance that a positive scores above a negative."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of equal scores
    ranks = middle[places]
    return float((ranks[truth == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(scores: Doubles, truth: Ints) -> float:
    """Return the area under the precision-recall curve, as a sum over its steps."""
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = truth[order] == 1
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def calibration_error(scores: Doubles, truth: Ints) -> float:
    """Return the expected calibration error over equal-width bins (Naeini et al. 2015)."""
    place = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(place, minlength=_BINS)
    said = np.bincount(place, weights=scores, minlength=_BINS)
    was = np.bincount(place, weights=truth, minlength=_BINS)
    return float(np.abs(said - was).sum() / max(1, counts.sum()))


def _log_loss(scores: Doubles, truth: Ints) -> float:
    held = np.clip(scores, _TINY, 1 - _TINY)
    return float(-np.where(truth == 1, np.log(held), np.log(1 - held)).mean())


def _rate(
    chosen: Callable[[Bools, Bools], tuple[Any, Any]],
) -> Callable[[Doubles, Ints, float], float]:
    def figure(scores: Doubles, truth: Ints, threshold: float) -> float:
        hit, among = chosen(scores >= threshold, truth == 1)
        return float(hit.sum() / among.sum()) if among.sum() else float("nan")

    return figure


def _f1(scores: Doubles, truth: Ints, threshold: float) -> float:
    said, is_positive = scores >= threshold, truth == 1
    both = said.sum() + is_positive.sum()
    return float(2 * (said & is_positive).sum() / both) if both else float("nan")


FIGURES: dict[str, Callable[[Doubles, Ints, float], float]] = {
    "accuracy": lambda scores, truth, threshold: float(((scores >= threshold) == (truth == 1)).mean()),
    "sensitivity": _rate(lambda said, positive: (said & positive, positive)),
    "specificity": _rate(lambda said, positive: (~said & ~positive, ~positive)),
    "precision": _rate(lambda said, positive: (said & positive, said)),
    "f1": _f1,
    "roc_auc": lambda scores, truth, _: roc_auc(scores, truth),
    "pr_auc": lambda scores, truth, _: average_precision(scores, truth),
    "brier": lambda scores, truth, _: float(((scores - truth) ** 2).mean()),
    "log_loss": lambda scores, truth, _: _log_loss(scores, truth),
    "ece": lambda scores, truth, _: calibration_error(scores, truth),
}


def _bootstrap(
    scores: Doubles, truth: Ints, groups: Ints, threshold: float, seed: int, repeats: int
) -> dict[str, Doubles]:
    draw_from = np.random.default_rng(seed)
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    draws = {name: np.full(repeats, np.nan) for name in FIGURES}
    for repeat in range(repeats):
        chosen = draw_from.integers(len(members), size=len(members))
        places = np.concatenate([members[number] for number in chosen])
        for name, figure in FIGURES.items():
            draws[name][repeat] = figure(scores[places], truth[places], threshold)
    return draws


def _ratio(part: Ints, whole: Ints) -> Doubles:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part / whole, dtype=np.float64)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
