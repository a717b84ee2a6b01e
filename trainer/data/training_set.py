"""Training set: pictures, labels, sources, and which train and which are judged on."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.data.annotations import Annotations
from trainer.images.arrays import Grey, Ints


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What is trained on and judged on: pictures (n, S, S) uint8, labels (n,), sources (n,)."""

    pictures: Grey
    labels: Ints
    sources: Ints
    train: Ints
    validation: Ints
    negative: int = 0  # places of the classes that a drawn lesion leads from and to
    positive: int = 1
    annotations: Annotations | None = None  # None: it is only known that negatives have no lesion
