"""From the network's numbers to a label: calibration, threshold, uncertain band, rejection."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from trainer.images.arrays import Floats
from trainer.model.spec import ModelSpec
from trainer.model.weights import Tensors


class Verdict(StrEnum):
    """How far a label can be trusted."""

    OK = "ok"
    UNCERTAIN = "uncertain"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is concluded about one image."""

    verdict: Verdict
    label: str | None  # None when rejected
    confidence: float | None  # calibrated probability of `label`, 0..1
    probabilities: tuple[float, ...]  # calibrated, in the order of the spec's classes
    distance: float | None  # Mahalanobis distance to the training images, None without a limit

    def score(self, spec: ModelSpec) -> float:
        """Return the calibrated probability of the class of interest, 0..1; without one, the largest."""
        return _score(self.probabilities, spec)


def probabilities(logits: Floats, temperature: float) -> Floats:
    """Return the calibrated probabilities (batch, classes) of logits (batch, classes)."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    grown = np.exp(scaled)
    likely: Floats = (grown / grown.sum(axis=1, keepdims=True)).astype(np.float32)
    return likely


def distance_tensors(tensors: Tensors) -> Tensors:
    """Return those of a weights file's tensors that judging needs; the network's own are the engine's."""
    return {name: value for name, value in tensors.items() if name.startswith("ood.")}


def distances(features: Floats, tensors: Tensors) -> Floats:
    """Return the Mahalanobis distance (batch,) of features (batch, features) to the nearest class mean."""
    means = tensors["ood.means"].astype(np.float32)  # (classes, features)
    whitening = tensors["ood.whitening"].astype(np.float32)  # (features, rank)
    known = len(whitening)  # files of older versions know the first of the features only
    white = np.asarray(features[:, :known], dtype=np.float32) @ whitening
    centres = means @ whitening
    nearest: Floats = np.sqrt(((white[:, None, :] - centres[None, :, :]) ** 2).sum(axis=2)).min(axis=1)
    return nearest


def judge(logits: Floats, features: Floats, spec: ModelSpec, tensors: Tensors) -> list[Prediction]:
    """Return one Prediction per row of logits (batch, classes) and features (batch, features), float32.

    `tensors` need hold only the `ood.*` tensors, and those only if the spec has a limit. A row's
    prediction depends on that row alone.
    """
    likely = probabilities(logits, spec.decision.temperature)
    limit = spec.out_of_distribution
    away = distances(features, tensors) if limit is not None else None
    return [
        conclude(row, spec, None if away is None else float(away[number]))
        for number, row in enumerate(likely)
    ]


def conclude(row: Floats, spec: ModelSpec, distance: float | None) -> Prediction:
    """Return what calibrated probabilities (classes,) and a distance (None: not measured) amount to."""
    likely = tuple(float(probability) for probability in row)
    limit = spec.out_of_distribution
    if limit is not None and distance is not None and not distance <= limit.max_distance:
        return Prediction(Verdict.REJECTED, None, None, likely, distance)
    label = _label(likely, spec)
    decision = spec.decision
    unsure = decision.uncertain_low <= _score(likely, spec) < decision.uncertain_high
    return Prediction(
        Verdict.UNCERTAIN if unsure else Verdict.OK,
        label,
        likely[spec.classes.index(label)],
        likely,
        distance,
    )


def _score(likely: tuple[float, ...], spec: ModelSpec) -> float:
    positive = spec.decision.positive
    return max(likely) if positive is None else likely[spec.classes.index(positive)]


def _label(likely: tuple[float, ...], spec: ModelSpec) -> str:
    positive = spec.decision.positive
    if positive is None:
        return spec.classes[int(np.argmax(likely))]
    index = spec.classes.index(positive)
    if likely[index] >= spec.decision.threshold:
        return positive
    others = [(probability, number) for number, probability in enumerate(likely) if number != index]
    return spec.classes[max(others)[1]]
