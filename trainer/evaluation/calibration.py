"""What makes probabilities mean what they say, fitted on images the network was not trained on."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from trainer.model.prediction import distances, probabilities
from trainer.model.spec import Decision, OutOfDistribution
from trainer.model.weights import Tensors

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Names of a class that mean that something was found.
POSITIVE_NAMES = frozenset({"yes", "tumour", "tumor", "positive", "1"})
# Half the width of the band around the threshold, in probability, that a person should look at.
UNCERTAIN_BAND = 0.15
_SHIFT_STEPS = 100
_RANK = 64
_OTHERS_WEIGHT = 1.0


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """Return the temperature that minimises the log-loss of logits (n, classes) for labels (n,).

    Guo et al. 2017, "On Calibration of Modern Neural Networks". Golden-section search on its logarithm.
    """

    def loss(log_temperature: float) -> float:
        shares = probabilities(logits, math.exp(log_temperature))
        chosen = np.clip(shares[np.arange(len(labels)), labels], 1e-7, 1)
        return float(-np.log(chosen).mean())

    low, high = math.log(0.2), math.log(10.0)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def fit_shift(logits: Floats, labels: Ints) -> Floats:
    """Return what to add to logits (n, classes) so that each class's mean probability is its share of labels.

    Balanced sampling and drawn lesions show classes in other shares than they have. The condition is
    that of the maximum likelihood for a bias; a fixed point (Saerens et al. 2002, "Adjusting the Outputs of a
    Classifier to New a Priori Probabilities"). A class without labels keeps its logits.
    """
    shift = np.zeros(logits.shape[1])
    shares = np.bincount(labels, minlength=logits.shape[1]) / len(labels)
    there = shares > 0
    for _ in range(_SHIFT_STEPS):
        said = probabilities((logits + shift).astype(np.float32), 1.0).astype(np.float64).mean(axis=0)
        shift[there] += np.log(shares[there] / np.clip(said[there], 1e-9, 1))
    centred: Floats = (shift - shift[there].mean() * there).astype(np.float32)
    return centred


def fit_decision(logits: Floats, labels: Ints, classes: tuple[str, ...], sensitivity: float) -> Decision:
    """Return temperature, threshold and uncertain band from held-out logits (n, classes), labels (n,).

    With two classes the threshold is the highest one whose sensitivity, by the lower bound of its 95 %
    Wilson interval, is still at least `sensitivity`, but never above one half: a missed tumour
    weighs more than a false alarm. With more classes the likeliest wins.
    """
    temperature = fit_temperature(logits, labels)
    shares = probabilities(logits, temperature)
    positive = positive_class(classes)
    if positive is None:
        return Decision(temperature=temperature, uncertain_low=0.0, uncertain_high=0.6)
    place = classes.index(positive)
    threshold = _threshold(shares[:, place], labels == place, sensitivity)
    return Decision(
        temperature=temperature,
        positive=positive,
        threshold=threshold,
        uncertain_low=max(0.0, threshold - UNCERTAIN_BAND),
        uncertain_high=min(1.0, threshold + UNCERTAIN_BAND),
    )


def positive_class(classes: tuple[str, ...]) -> str | None:
    """Return which of two classes means that something was found; None for more than two."""
    if len(classes) != 2:
        return None
    known = [name for name in classes if name.lower() in POSITIVE_NAMES]
    return known[0] if len(known) == 1 else classes[1]


def fit_out_of_distribution(
    features: Floats, labels: Ints, held_out: Floats, acceptance: float, others: Floats | None = None
) -> tuple[OutOfDistribution, Tensors]:
    """Return the distance limit that lets `acceptance` of held-out features (m, d) pass, and its tensors.

    Class means and one shared covariance of the training features (n, d), shrunk by a constant tenth
    towards a multiple of the identity of the same trace (scikit-learn's `shrunk_covariance`), and whitened
    in at most 64 directions. With `others` (k, d), features
    of pictures of other kinds, the direction that tells them from the training images best (Fisher
    1936) counts more than all the rest: distance alone does not know which deviations matter.
    """
    means = np.stack([features[labels == place].mean(axis=0) for place in np.unique(labels)])
    centred = features - means[np.searchsorted(np.unique(labels), labels)]
    covariance = np.cov(centred, rowvar=False).astype(np.float64)
    shrink = 0.1
    covariance = (1 - shrink) * covariance + shrink * np.trace(covariance) / len(covariance) * np.eye(
        len(covariance)
    )
    values, vectors = np.linalg.eigh(covariance)
    rank = min(_RANK, len(values))
    whitening = (vectors[:, -rank:] / np.sqrt(values[-rank:])).astype(np.float32)
    if others is not None and len(others):
        direction = _direction(features, others, covariance)
        whitening = np.concatenate((whitening, direction[:, None]), axis=1)
    # Rounded before the limit is taken: half the bytes in the weights file, nothing changes later.
    tensors: Tensors = {
        name: value.astype(np.float16).astype(np.float32)
        for name, value in (("ood.means", means), ("ood.whitening", whitening))
    }
    limit = float(np.quantile(distances(held_out, tensors), acceptance))
    return OutOfDistribution(max_distance=limit, acceptance=acceptance), tensors


def _direction(features: Floats, others: Floats, covariance: npt.NDArray[np.float64]) -> Floats:
    """Return Fisher's direction (d,) between training images and others, scaled to weigh as it should.

    Along it the training images spread by `_OTHERS_WEIGHT` times the square root of the rank, so that a
    step of their own spread counts as much as leaving in every other direction together.
    """
    between = features.mean(axis=0) - others.mean(axis=0)
    steady = 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    direction = np.linalg.solve(covariance + np.cov(others, rowvar=False) + steady, between)
    spread = float((features @ direction).std())
    scaled: Floats = (direction * (_OTHERS_WEIGHT * math.sqrt(_RANK) / max(spread, 1e-9))).astype(np.float32)
    return scaled


def _threshold(scores: Floats, is_positive: npt.NDArray[np.bool_], sensitivity: float) -> float:
    found = np.sort(scores[is_positive])
    if not len(found):
        return 0.5
    for missed, score in enumerate(found):  # a threshold at the k-th smallest misses k positives
        if _wilson_low(len(found) - missed, len(found)) < sensitivity:
            return float(min(0.5, found[max(0, missed - 1)]))
        if score >= 0.5:
            break
    return 0.5


def _wilson_low(hits: int, count: int) -> float:
    """Return the lower end of the 95 % Wilson score interval (Wilson 1927)."""
    z = 1.959964
    share = hits / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (centre - spread) / (1 + z * z / count)
