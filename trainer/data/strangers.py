"""Outlier detection: pictures unlike the others of their class and source, by plain statistics.

Three measures, none learnt from labels: the Mahalanobis distance of left-right averaged thumbnails (another
plane, another cut), the share of the head that is white (bone in CT), and roughness (sharpened or posterised
copies). Each finds other strangers, so each has its own ranking.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from trainer.data.dataset import Dataset
from trainer.images.arrays import Doubles, Grey, Ints

SHOWN: Final = 48  # strangers by one measure of one class of one source
_FEWEST = 10  # images of a class of a source; among fewer nothing is usual
_SIDE = 24  # pixels of a thumbnail
# Of 1,649 healthy images with 39 head CT among them eight components rank all 39 within the first fifth,
# three quarters within the first tenth; with 32 it is half. The white share ranks 95 % within a tenth.
_COMPONENTS = 8
_SHRINKAGE = 0.1  # towards a multiple of the identity
_BLACK, _WHITE = 20, 240  # grey levels of 255: more is head, more is white


@dataclass(frozen=True, slots=True)
class Strangers:
    """The images of one class of one source that are least like the others by one measure, worst first."""

    source: str
    label: str
    measure: str
    indices: Ints  # (k,), places in the dataset
    scores: Doubles  # (k,), robust standard deviations above the class's median


def find_strangers(dataset: Dataset) -> list[Strangers]:
    """Return the up to SHOWN strangers of each class of each source by each measure.

    Classes of fewer than ten images of a source are passed over.
    """
    found: list[Strangers] = []
    for source, name in enumerate(dataset.source_names):
        for label, kind in enumerate(dataset.classes):
            here = np.flatnonzero((dataset.sources == source) & (dataset.labels == label))
            if len(here) < _FEWEST:
                continue
            pictures = dataset.pictures[here]
            for measure, measured in _MEASURES.items():
                scores = _standardised(measured(pictures))
                order = np.argsort(-scores, kind="stable")[:SHOWN]
                found.append(Strangers(name, kind, measure, here[order], scores[order]))
    return found


def unlikeness(pictures: Grey) -> Doubles:
    """Return the Mahalanobis distance (n,) of pictures (n, S, S) to their mean, from folded thumbnails."""
    small = np.stack([_thumbnail(picture) for picture in pictures])
    folded = ((small + small[:, :, ::-1]) / 2)[:, :, : _SIDE // 2].reshape(len(small), -1)
    left, spread, _ = np.linalg.svd(folded - folded.mean(axis=0), full_matrices=False)
    places = (left * spread)[:, :_COMPONENTS]
    covariance = np.cov(places.T)
    usual = np.trace(covariance) / len(covariance)
    shrunk = (1 - _SHRINKAGE) * covariance + (_SHRINKAGE * usual + 1e-9) * np.eye(len(covariance))
    squared = np.einsum("ij,ij->i", places @ np.linalg.inv(shrunk), places)
    return np.asarray(np.sqrt(squared), dtype=np.float64)


def white_share(pictures: Grey) -> Doubles:
    """Return which share (n,) of what is not black is white."""
    return np.array(
        [(picture > _WHITE).sum() / max(1, (picture > _BLACK).sum()) for picture in pictures],
        dtype=np.float64,
    )


def roughness(pictures: Grey) -> Doubles:
    """Return the mean absolute Laplacian (n,) inside the head over the standard deviation of its tones."""
    rough = np.empty(len(pictures), dtype=np.float64)
    for number, picture in enumerate(pictures):
        tones = picture.astype(np.float64)
        middle = tones[1:-1, 1:-1]
        curved = np.abs(4 * middle - tones[:-2, 1:-1] - tones[2:, 1:-1] - tones[1:-1, :-2] - tones[1:-1, 2:])
        head = middle > _BLACK
        rough[number] = curved[head].mean() / (middle[head].std() + 1.0) if head.any() else 0.0
    return rough


_MEASURES: Final[dict[str, Callable[[Grey], Doubles]]] = {
    "unlike": unlikeness,
    "white": white_share,
    "rough": roughness,
}


def _thumbnail(picture: Grey) -> Doubles:
    small = Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small).astype(np.float64) / 255


def _standardised(values: Doubles) -> Doubles:
    """Return the values (n,) from their median, in robust standard deviations (1.4826 median deviations)."""
    away = values - np.median(values)
    return np.asarray(away / (1.4826 * np.median(np.abs(away)) + 1e-9), dtype=np.float64)
