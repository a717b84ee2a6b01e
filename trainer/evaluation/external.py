"""Collections that take no part in a training and are judged on at its end: `--external DIR`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from trainer.data.dataset import Collection, Dataset
from trainer.data.groups import group_ids, near_duplicates
from trainer.evaluation.calibrated import Calibrated
from trainer.evaluation.report import scores
from trainer.images.arrays import Ints
from trainer.model.spec import Preprocessing
from trainer.networks.inference import predict


@dataclass(frozen=True, slots=True)
class External:
    """The images of all external roots, without those that have a twin among the images trained with."""

    dataset: Dataset
    labels: Ints  # (n,), indices into the training's classes
    kept: Ints  # indices of those without a twin
    groups: Ints  # (n,)
    classes: tuple[str, ...]

    def figures(self, calibrated: Calibrated, device: torch.device) -> dict[str, Any]:
        """Return per root what a trained network reaches there, and how many twins were left out."""
        report: dict[str, Any] = {}
        for number, name in enumerate(self.dataset.source_names):
            here = self.dataset.sources == number
            indices = self.kept[here[self.kept]]
            report[name] = {"twins_left_out": int(here.sum()) - len(indices)}
            if len(indices):
                logits, features = predict(calibrated.network, self.dataset.pictures[indices], device)
                report[name]["rejected"] = round(calibrated.rejected(features), 6)
                report[name] |= scores(
                    logits, self.labels[indices], self.groups[indices], calibrated.decision, self.classes
                )
        return report


class LoadingListener(Protocol):
    """What is told how the loading goes."""

    def decoding(self, done: int, total: int) -> None:
        """Called as images are decoded."""

    def say(self, message: str) -> None:
        """Called with one line for people."""


def load_external(
    collection: Collection, known: Dataset, preprocessing: Preprocessing, listener: LoadingListener
) -> External:
    """Return the images of external roots, preprocessed as the known ones.

    Raises DataError for a class that the known images lack.
    """
    dataset = collection.load(preprocessing, listener.decoding, least_classes=1)
    labels = dataset.labels_in(known.classes)
    everything = np.concatenate((known.pictures, dataset.pictures))
    patients = [*known.patients, *dataset.patients]
    groups = group_ids((*known.hashes, *dataset.hashes), near_duplicates(everything), patients)
    theirs = groups[len(known) :]
    kept = np.flatnonzero(~np.isin(theirs, groups[: len(known)]))
    if twins := len(dataset) - len(kept):
        listener.say(
            f"{twins} external images have a twin or their patient among the training images: left out"
        )
    return External(dataset, labels, kept, theirs, known.classes)
