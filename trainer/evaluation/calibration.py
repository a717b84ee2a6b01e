"""Fit calibration temperature, class prior shift and decision threshold on held-out logits."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from trainer.images.arrays import Bools, Doubles, Floats, Ints
from trainer.model.prediction import probabilities
from trainer.model.spec import Decision

# Names of a class that mean that something was found.
POSITIVE_NAMES = frozenset({"yes", "tumour", "tumor", "positive", "1"})
# Half the width of the band around the threshold, in probability, that a person should look at.
UNCERTAIN_BAND = 0.15
_SHIFT_STEPS = 100
# Beyond the band so many of the images that are told apart there are told right.
_BAND_SHARE = 0.95


def fit_temperature(logits: Floats, labels: Ints, weights: Doubles | None = None) -> float:
    """Return the temperature that minimises the log-loss of logits (n, classes) for labels (n,).

    Images count by `weights` (n,), without any all the same.
    Guo et al. 2017, "On Calibration of Modern Neural Networks". Brent's search on its logarithm, 0.2 to 10.
    """

    def loss(log_temperature: float) -> float:
        likely = probabilities(logits, math.exp(log_temperature))
        chosen = np.clip(likely[np.arange(len(labels)), labels], 1e-7, 1)
        return float(-np.average(np.log(chosen), weights=weights))

    bounds = (math.log(0.2), math.log(10.0))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x)


def fit_shift(logits: Floats, labels: Ints) -> Floats:
    """Return what to add to logits (n, classes) so that each class's mean probability is its share of labels.

    Balanced sampling and drawn lesions show classes in other shares than they have. The condition is
    that of the maximum likelihood for a bias; a fixed point (Saerens et al. 2002, "Adjusting the Outputs of a
    Classifier to New a Priori Probabilities"). A class without labels keeps its logits.
    """
    shift = np.zeros(logits.shape[1])
    prior = np.bincount(labels, minlength=logits.shape[1]) / len(labels)
    there = prior > 0
    for _ in range(_SHIFT_STEPS):
        mean = probabilities((logits + shift).astype(np.float32), 1.0).astype(np.float64).mean(axis=0)
        shift[there] += np.log(prior[there] / np.clip(mean[there], 1e-9, 1))
    centred: Floats = (shift - shift[there].mean() * there).astype(np.float32)
    return centred


def fit_decision(logits: Floats, labels: Ints, classes: tuple[str, ...], sensitivity: float) -> Decision:
    """Return temperature, threshold and uncertain band from held-out logits (n, classes), labels (n,).

    With two classes the threshold is the highest one whose sensitivity, by the lower bound of its 95 %
    Wilson interval, is still at least `sensitivity`, but never above one half: a missed tumour
    weighs more than a false alarm. With more classes the likeliest wins.
    """
    temperature = fit_temperature(logits, labels)
    likely = probabilities(logits, temperature)
    positive = positive_class(classes)
    if positive is None:
        return Decision(temperature=temperature, uncertain_low=0.0, uncertain_high=0.6)
    index = classes.index(positive)
    threshold = _threshold(likely[:, index], labels == index, sensitivity)
    return Decision(
        temperature=temperature,
        positive=positive,
        threshold=threshold,
        uncertain_low=max(0.0, threshold - UNCERTAIN_BAND),
        uncertain_high=min(1.0, threshold + UNCERTAIN_BAND),
    )


def fit_pooled_decision(logits: Floats, labels: Ints, weights: Doubles, classes: tuple[str, ...]) -> Decision:
    """Return temperature, threshold and uncertain band from logits (n, classes) that count by weights (n,).

    Of images from sources that the networks had not seen: what is usual there is not what is usual in the
    sources they learnt from. With two classes the threshold is where sensitivity and specificity
    together are greatest (Youden 1950, "Index for rating diagnostic tests"). The band lies between the scores
    from which 95 % of the tumours are found and up to which 95 % of the others are told right, but goes no
    further than 0.15 from the threshold.
    """
    temperature = fit_temperature(logits, labels, weights)
    likely = probabilities(logits, temperature)
    positive = positive_class(classes)
    if positive is None:
        return Decision(temperature=temperature, uncertain_low=0.0, uncertain_high=0.6)
    index = classes.index(positive)
    threshold, low, high = youden_threshold(likely[:, index], labels == index, weights)
    return Decision(
        temperature=temperature,
        positive=positive,
        threshold=threshold,
        uncertain_low=low,
        uncertain_high=high,
    )


def youden_threshold(scores: Floats | Doubles, truth: Bools, weights: Doubles) -> tuple[float, float, float]:
    """Return the threshold of scores (n,) that count by weights (n,), and the two ends of its uncertain band.

    See `fit_pooled_decision`.
    """
    false_alarms, found, thresholds = roc_curve(truth, scores, sample_weight=weights, drop_intermediate=False)
    threshold = float(min(thresholds[1:][np.argmax((found - false_alarms)[1:])], 1.0))
    finds = float(thresholds[np.argmax(found >= _BAND_SHARE)])
    spares = float(thresholds[np.flatnonzero(false_alarms <= 1 - _BAND_SHARE + 1e-9)[-1]])
    low = float(np.clip(finds, max(0.0, threshold - UNCERTAIN_BAND), threshold))
    return threshold, low, float(np.clip(spares, threshold, min(1.0, threshold + UNCERTAIN_BAND)))


def positive_class(classes: tuple[str, ...]) -> str | None:
    """Return which of two classes means that something was found; None for more than two."""
    if len(classes) != 2:
        return None
    known = [name for name in classes if name.lower() in POSITIVE_NAMES]
    return known[0] if len(known) == 1 else classes[1]


def _threshold(scores: Floats, is_positive: Bools, sensitivity: float) -> float:
    positives = np.sort(scores[is_positive])
    if not len(positives):
        return 0.5
    for missed, score in enumerate(positives):  # a threshold at the k-th smallest misses k positives
        if _wilson_low(len(positives) - missed, len(positives)) < sensitivity:
            return float(min(0.5, positives[max(0, missed - 1)]))
        if score >= 0.5:
            break
    return 0.5


def _wilson_low(hits: int, count: int) -> float:
    """Return the lower end of the 95 % Wilson score interval (Wilson 1927)."""
    return float(binomtest(hits, count).proportion_ci(0.95, method="wilson").low)
