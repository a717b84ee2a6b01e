"""The nearest neighbour: what a network must beat before it has learnt anything."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from trainer.images.arrays import Floats, Grey, Ints

_SIDE = 32


def nearest_neighbour(
    pictures: Grey,
    labels: Ints,
    train: Ints,
    validation: Ints,
) -> dict[str, Any]:
    """Return the accuracy of giving each validation picture the label of the likest training picture.

    Likeness is the correlation of 32x32 thumbnails of the pictures (n, S, S[, 3]) uint8.
    """
    # On thumbnails of length one the nearest is the most alike.
    neighbours = KNeighborsClassifier(n_neighbors=1, algorithm="brute")
    neighbours.fit(_thumbnails(pictures, train), labels[train])
    right = neighbours.predict(_thumbnails(pictures, validation)) == labels[validation]
    return {
        "accuracy": round(float(right.mean()), 6),
        "recall": [
            round(float(right[labels[validation] == label].mean()), 6)
            for label in np.unique(labels[validation])
        ],
    }


def _thumbnails(pictures: Grey, indices: Ints) -> Floats:
    colours = pictures.shape[3] if pictures.ndim == 4 else 1
    out = np.empty((len(indices), _SIDE * _SIDE * colours), dtype=np.float32)
    for row, index in enumerate(indices):
        small = Image.fromarray(pictures[index]).resize((_SIDE, _SIDE), Image.Resampling.BOX)
        out[row] = np.asarray(small, dtype=np.float32).ravel()
    out -= out.mean(axis=1, keepdims=True)
    out /= np.linalg.norm(out, axis=1, keepdims=True) + 1e-6
    return out
