"""Collections that take no part in a training and are judged on at its end: `--external DIR`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from config.errors import DataError
from config.text import printable
from trainer.data.dataset import Dataset, find_images, load_dataset
from trainer.data.groups import group_ids, near_duplicates
from trainer.evaluation.report import scores
from trainer.images.arrays import Ints
from trainer.model.prediction import distances
from trainer.model.spec import Decision, OutOfDistribution, Preprocessing
from trainer.model.weights import Tensors
from trainer.networks.classifier import Classifier
from trainer.networks.inference import predict


@dataclass(frozen=True, slots=True)
class External:
    """The images of all external roots, without those that have a twin among the images trained with."""

    dataset: Dataset
    labels: Ints  # (n,), places in the training's classes
    kept: Ints  # places of those without a twin
    groups: Ints  # (n,)
    classes: tuple[str, ...]

    def figures(
        self,
        network: Classifier,
        tensors: Tensors,
        limit: OutOfDistribution,
        decision: Decision,
        device: torch.device,
    ) -> dict[str, Any]:
        """Return per root what a trained network reaches there, and how many twins were left out."""
        told: dict[str, Any] = {}
        for number, name in enumerate(self.dataset.source_names):
            here = self.dataset.sources == number
            places = self.kept[here[self.kept]]
            told[name] = {"twins_left_out": int(here.sum()) - len(places)}
            if len(places):
                logits, features = predict(network, self.dataset.pictures[places], device)
                rejected = float((distances(features, tensors) > limit.max_distance).mean())
                told[name]["rejected"] = round(rejected, 6)
                told[name] |= scores(logits, self.labels[places], self.groups[places], decision, self.classes)
        return told


class LoadingListener(Protocol):
    """What is told how the loading goes."""

    def decoding(self, done: int, total: int) -> None:
        """Called as images are decoded."""

    def say(self, message: str) -> None:
        """Called with one line for people."""


def load_external(
    roots: Sequence[Path], merge: Mapping[str, str], cache: Path, known: Dataset, listener: LoadingListener
) -> External:
    """Return the images of external roots at the size of the known ones.

    Raises DataError for a class that the known images lack.
    """
    how = Preprocessing(image_size=known.pictures.shape[-1])
    files = find_images(roots, merge, least_classes=1)
    dataset = load_dataset(files, how, cache, progress=listener.decoding, least_classes=1)
    if unknown := sorted(set(dataset.classes) - set(known.classes)):
        raise DataError(
            f"--external has the class {printable(', '.join(unknown))}, which the training lacks",
            hint=f"map its folders to {', '.join(map(printable, known.classes))} with --merge",
        )
    everything = np.concatenate((known.pictures, dataset.pictures))
    groups = group_ids((*known.hashes, *dataset.hashes), near_duplicates(everything))
    theirs = groups[len(known) :]
    kept = np.flatnonzero(~np.isin(theirs, groups[: len(known)]))
    if twins := len(dataset) - len(kept):
        listener.say(f"{twins} external images have a twin in the training images and are left out")
    labels = np.array(
        [known.classes.index(dataset.classes[label]) for label in dataset.labels], dtype=np.int64
    )
    return External(dataset, labels, kept, theirs, known.classes)
