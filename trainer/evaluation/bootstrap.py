"""Bootstrap over groups: every figure of many resamples at once, from the weights of the images.

Figures are those of `trainer.evaluation.metrics` (scikit-learn's), for which 400 resamples would take a
minute; a test holds them equal.
"""

from __future__ import annotations

import numpy as np

from trainer.images.arrays import Doubles, Ints

BINS = 15  # of the expected calibration error
TINY = 1e-7  # probabilities are kept so far from 0 and 1 before their logarithm is taken
_AT_ONCE = 2_000_000  # weights that are worked on at a time: 16 MB


def group_weights(groups: Ints, repeats: int, seed: int) -> Ints:
    """Return how often each resample of whole groups holds each image (repeats, n)."""
    rng = np.random.default_rng(seed)
    _, member_of = np.unique(groups, return_inverse=True)
    count = int(member_of.max()) + 1
    drawn = [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(repeats)]
    return np.stack(drawn)[:, member_of.reshape(-1)].astype(np.int64)


def resampled_figures(scores: Doubles, truth: Ints, threshold: float, weights: Ints) -> dict[str, Doubles]:
    """Return every figure (repeats,) of images weighed by `weights` (repeats, n); nan where there is none."""
    rows = max(1, _AT_ONCE // max(1, len(scores)))
    parts = [
        _figures(scores, truth, threshold, weights[start : start + rows].astype(np.float64))
        for start in range(0, len(weights), rows)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def calibration_bins(scores: Doubles) -> Ints:
    """Return the equal-width bin (n,) of each probability."""
    return np.minimum((scores * BINS).astype(np.int64), BINS - 1)


def _figures(scores: Doubles, truth: Ints, threshold: float, weights: Doubles) -> dict[str, Doubles]:
    is_positive, given = truth == 1, scores >= threshold
    held = np.clip(scores, TINY, 1 - TINY)
    surprise = -np.log(np.where(is_positive, held, 1 - held))
    total = weights.sum(axis=1)
    positives, alarms = weights @ is_positive, weights @ given
    hits = weights @ (given & is_positive)
    bins = np.eye(BINS)[calibration_bins(scores)] * (scores - truth)[:, None]  # (n, bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "accuracy": weights @ (given == is_positive) / total,
            "sensitivity": hits / positives,
            "specificity": weights @ (~given & ~is_positive) / (total - positives),
            "precision": hits / alarms,
            "f1": 2 * hits / (alarms + positives),
            **_areas(scores, is_positive.astype(np.float64), weights),
            "brier": weights @ (scores - truth) ** 2 / total,
            "log_loss": weights @ surprise / total,
            "ece": np.abs(weights @ bins).sum(axis=1) / total,
        }


def _areas(scores: Doubles, is_positive: Doubles, weights: Doubles) -> dict[str, Doubles]:
    """Return the areas under the ROC and the precision-recall curve, from their points at each score."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of each run of equal scores
    chosen = weights[:, order]
    hits = np.cumsum(chosen * is_positive[order], axis=1)[:, last]  # (repeats, scores)
    alarms = np.cumsum(chosen, axis=1)[:, last]
    more_hits = np.diff(hits, axis=1, prepend=0)
    false_alarms = alarms - hits
    width = np.diff(false_alarms, axis=1, prepend=0)
    precision = np.divide(hits, alarms, out=np.zeros_like(hits), where=alarms > 0)
    area = (width * (hits - more_hits / 2)).sum(axis=1)
    return {
        "roc_auc": area / (hits[:, -1] * false_alarms[:, -1]),
        "pr_auc": (more_hits * precision).sum(axis=1) / hits[:, -1],
    }
