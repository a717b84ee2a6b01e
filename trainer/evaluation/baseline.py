"""The nearest neighbour: what a network must beat before it has learnt anything."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from trainer.images.arrays import Floats, Grey, Ints

_SIDE = 32
_BLOCK = 1024


def nearest_neighbour(
    pictures: Grey,
    labels: Ints,
    train: Ints,
    validation: Ints,
) -> dict[str, Any]:
    """Return the accuracy of giving each validation picture the label of the likest training picture.

    Likeness is the correlation of 32x32 thumbnails of the pictures (n, S, S) uint8.
    """
    known, asked = _thumbnails(pictures, train), _thumbnails(pictures, validation)
    said = np.concatenate(
        [labels[train][(asked[start : start + _BLOCK] @ known.T).argmax(axis=1)]
         for start in range(0, len(asked), _BLOCK)]
    )  # fmt: skip
    right = said == labels[validation]
    return {
        "accuracy": round(float(right.mean()), 6),
        "recall": [
            round(float(right[labels[validation] == label].mean()), 6)
            for label in np.unique(labels[validation])
        ],
    }


def _thumbnails(pictures: Grey, places: Ints) -> Floats:
    out = np.empty((len(places), _SIDE * _SIDE), dtype=np.float32)
    for row, place in enumerate(places):
        small = Image.fromarray(pictures[place]).resize((_SIDE, _SIDE), Image.Resampling.BOX)
        out[row] = np.asarray(small, dtype=np.float32).ravel()
    out -= out.mean(axis=1, keepdims=True)
    out /= np.linalg.norm(out, axis=1, keepdims=True) + 1e-6
    return out
