"""Calibrate a trained network: round it, set its biases, fit temperature, threshold and rejection limit.

Single runs and the rounds of cross-validation come through here, so that what the rounds show is true of
the network that is shipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainer.data.training_set import TrainingSet
from trainer.evaluation.calibration import fit_decision, fit_shift
from trainer.evaluation.ood import LimitExamples, fit_limit
from trainer.images.arrays import Bools, Floats
from trainer.model.prediction import distances
from trainer.model.spec import Decision, OutOfDistribution, Preprocessing, SeriesDecision
from trainer.model.weights import Tensors
from trainer.networks.bfloat16 import round_to_bfloat16
from trainer.networks.classifier import Classifier
from trainer.networks.inference import predict


@dataclass(frozen=True, slots=True)
class CalibrationConfig:
    """What a calibration aims at."""

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    sensitivity: float  # that the threshold is to reach on the held-out images
    seed: int
    examples: LimitExamples  # for the rejection limit, beside the training's images and drawn ones


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A network with what was fitted on the held-out images, and what it says of them."""

    network: Classifier
    logits: Floats  # (validation images, classes)
    features: Floats  # (validation images, d)
    decision: Decision
    limit: OutOfDistribution
    tensors: Tensors  # `ood.*`: what the limit's distance is computed with
    series: SeriesDecision | None = None  # fitted on patients that other networks had not seen

    def accepted(self, features: Floats) -> Bools:
        """Mark the images (n,) whose features (n, d) lie within the distance limit."""
        return self.distances(features) <= self.limit.max_distance

    def distances(self, features: Floats) -> Floats:
        """Return the distances (n,) of images with these features (n, d) to the training images."""
        return distances(features, self.tensors)

    def rejected(self, features: Floats) -> float:
        """Return the share of images with these features (n, d) that lie beyond the distance limit."""
        return float((~self.accepted(features)).mean())


def calibrate_network(
    network: Classifier, data: TrainingSet, config: CalibrationConfig, device: torch.device
) -> Calibrated:
    """Return what is fitted on `data`'s validation images; the network is changed in place.

    Its weights are rounded to bfloat16 and its biases shifted so that mean probabilities are the classes'
    shares.
    """
    round_to_bfloat16(network, config.preprocessing.image_size)
    logits, features = predict(network, data.pictures[data.validation], device)
    labels = data.labels[data.validation]
    shift = fit_shift(logits, labels)
    network.shift_logits(shift)
    logits = logits + shift
    decision = fit_decision(logits, labels, config.classes, config.sensitivity)
    limit, tensors = fit_limit(network, data, device, config.preprocessing, config.seed, config.examples)
    return Calibrated(network, logits, features, decision, limit, tensors)
