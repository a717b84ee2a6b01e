"""A labelled collection as one model judges it: probabilities, classes given, distances, verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from trainer.data.dataset import Collection, Dataset, Progress
from trainer.data.groups import group_ids, near_duplicates
from trainer.images.arrays import Bools, Doubles, Floats, Ints
from trainer.model.prediction import Prediction, Verdict, conclude, distances, probabilities
from trainer.model.weights import Weights, read_weights
from trainer.networks.classifier import Classifier
from trainer.networks.inference import predict
from trainer.networks.loading import load


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """One model's answers, a row an image, and what is known of the images."""

    weights: Weights
    network: Classifier
    dataset: Dataset
    labels: Ints  # (n,), indices into the model's classes
    groups: Ints  # (n,)
    logits: Floats  # (n, classes)
    predictions: tuple[Prediction, ...]  # (n,)

    @property
    def name(self) -> str:
        """The model as tables and legends show it."""
        spec = self.weights.spec
        return f"{spec.name} {spec.version} {self.weights.sha256[:8]}"

    @property
    def classes(self) -> tuple[str, ...]:
        """The model's classes."""
        return self.weights.spec.classes

    @property
    def positive(self) -> int | None:
        """The place of the class that is looked for, None if the likeliest class wins."""
        name = self.weights.spec.decision.positive
        return None if name is None else self.classes.index(name)

    @property
    def probabilities(self) -> Doubles:
        """Calibrated, (n, classes)."""
        return probabilities(self.logits, self.weights.spec.decision.temperature).astype(np.float64)

    @property
    def given(self) -> Ints:
        """The class given (n,), to rejected images too."""
        likely, positive = self.probabilities, self.positive
        best: Ints = likely.argmax(axis=1).astype(np.int64)
        if positive is None:
            return best
        others = np.where(np.arange(likely.shape[1]) == positive, -1.0, likely).argmax(axis=1)
        above = likely[:, positive] >= self.weights.spec.decision.threshold
        chosen: Ints = np.where(above, positive, others).astype(np.int64)
        return chosen

    def with_verdict(self, verdict: Verdict) -> Bools:
        """Mark the images (n,) that got a verdict."""
        return np.array([one.verdict == verdict for one in self.predictions], dtype=bool)


def judge_collection(
    weights_path: Path, collection: Collection, device: torch.device, progress: Progress | None = None
) -> JudgedSet:
    """Return what a weights file says of a collection.

    Raises WeightsError for a file that is none, DataError for classes that the model does not know.
    """
    weights = read_weights(weights_path)
    spec = weights.spec
    network = load(weights).to(device)  # first: what torch does not compute is refused before images are read
    dataset = collection.load(spec.preprocessing, progress)
    labels = dataset.labels_in(spec.classes)
    groups = group_ids(dataset.hashes, near_duplicates(dataset.pictures), dataset.patients)
    logits, features = predict(network, dataset.pictures, device)
    limit = spec.out_of_distribution
    away = None if limit is None else distances(features, weights.tensors)
    likely = probabilities(logits, spec.decision.temperature)
    predictions = tuple(
        conclude(row, spec, None if away is None else float(away[number]))
        for number, row in enumerate(likely)
    )
    return JudgedSet(weights, network, dataset, labels, groups, logits, predictions)
