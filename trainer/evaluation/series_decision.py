"""Fit the decision about series: Platt scaling, threshold and band, on series and on blocks of slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from trainer.evaluation.calibration import youden_threshold
from trainer.evaluation.slices import Parts, patients_by_kind
from trainer.images.arrays import Bools, Doubles, Ints
from trainer.model.series_rule import mean_of_loudest
from trainer.model.spec import SeriesDecision

# With fewer patients, with a tumour or without, a threshold is a guess.
_FEWEST_TO_FIT = 5
# A smaller slope means that the slices' scores tell nothing of the series.
_LEAST_SCALE = 0.01
_FOLDS = 5


def pooled(parts: Parts, share: float) -> Doubles:
    """Return the mean logit of the loudest `share` of the slices of each part (n,)."""
    return np.array([mean_of_loudest(one.scores.tolist(), share) for one in parts.members])


def fit_series_decision(parts: Parts, share: float) -> SeriesDecision | None:
    """Return the decision about series that fits parts judged by networks that had not seen their patients.

    Slope and offset are a logistic regression with a ridge penalty of 1 on the pooled logits, patients
    counting the same (Platt 1999, "Probabilistic outputs for support vector machines"): the probability is
    that of series of which half show a tumour. The threshold is where sensitivity and specificity together
    are greatest. None with fewer than five patients with a tumour, or without, or
    where the scores tell nothing.
    """
    series = [one for one, block in zip(parts.members, parts.is_block, strict=True) if not block]
    if min(patients_by_kind(series)) < _FEWEST_TO_FIT:
        return None
    values, truth, weights = pooled(parts, share), parts.truth, parts.weights
    patients = len(np.unique(parts.patients))
    model = LogisticRegression(C=1.0).fit(values[:, None], truth, sample_weight=weights * patients)
    scale, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    if scale < _LEAST_SCALE:
        return None
    likely = expit(scale * values + offset)
    _, low, high = youden_threshold(likely, truth, weights)
    threshold = threshold_between(likely, truth, weights)
    return SeriesDecision(
        share=share,
        scale=round(scale, 6),
        offset=round(offset, 6),
        threshold=round(threshold, 6),
        uncertain_low=round(min(low, threshold), 6),
        uncertain_high=round(max(high, threshold), 6),
    )


def threshold_between(values: Doubles, truth: Bools, weights: Doubles) -> float:
    """Return the best threshold of values (n,), half-way between it and the next lower one of them.

    So that rounding, there and here, decides nothing.
    """
    threshold = youden_threshold(values, truth, weights)[0]
    lower = values[values < threshold]
    return float((threshold + lower.max()) / 2) if len(lower) else threshold


def folds_of_patients(truth: Bools, patients: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yield what is learnt from and what is judged, patients apart; five folds, or as many as patients."""
    fewest = min(len(np.unique(patients[truth == kind])) for kind in (True, False))
    folds = StratifiedGroupKFold(min(_FOLDS, fewest), shuffle=True, random_state=0)
    yield from folds.split(truth, truth, patients)


def decided_out_of_fold(
    fitted: Callable[[Ints], Doubles], truth: Bools, patients: Ints, weights: Doubles
) -> tuple[Doubles, Bools]:
    """Return values and decisions (n,) by a rule and a threshold that were fitted on other patients.

    `fitted` returns the values (n,) of all by the rule fitted on those at some places.
    """
    values, decided = np.empty(len(truth)), np.empty(len(truth), dtype=bool)
    for learnt, judged in folds_of_patients(truth, patients):
        some = fitted(learnt)
        values[judged] = some[judged]
        decided[judged] = some[judged] >= threshold_between(some[learnt], truth[learnt], weights[learnt])
    return values, decided
