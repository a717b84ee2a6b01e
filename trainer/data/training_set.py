"""Training set: pictures, labels, sources, and which train and which are judged on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainer.data.annotations import MAP_REDUCTION, Annotations
from trainer.data.batch import Batch
from trainer.images.arrays import Floats, Grey, Ints, planes


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What is trained on and judged on: pictures (n, S, S[, 3]) uint8, labels (n,), sources (n,)."""

    pictures: Grey
    labels: Ints
    sources: Ints
    train: Ints
    validation: Ints
    negative: int = 0  # places of the classes that a drawn lesion leads from and to
    positive: int = 1
    annotations: Annotations | None = None  # None: it is only known that negatives have no lesion
    class_weights: Floats | None = None  # (classes,), of the loss; None: all weigh the same

    def batch(self, indices: Ints) -> Batch:
        """Return the pictures at `indices` (n,) with what is known of where lesions are."""
        pictures = torch.from_numpy(planes(self.pictures[indices]))
        labels = torch.from_numpy(self.labels[indices])
        if self.annotations is None:
            side = self.pictures.shape[1] // MAP_REDUCTION
            return Batch(pictures, labels, torch.zeros(len(indices), 1, side, side), labels == self.negative)
        maps = torch.from_numpy(self.annotations.maps[indices])[:, None].float() / 255
        return Batch(pictures, labels, maps, torch.from_numpy(self.annotations.known[indices]))
