"""Label maps of drawn heads, with the numbers that real ones have."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainer.images.arrays import Array

SKIN, SOFT, BONE, FLUID, WHITE_LEFT, WHITE_RIGHT, GREY_LEFT, GREY_RIGHT = 511, 507, 515, 24, 2, 41, 3, 42


def drawn_labels(side: int = 64) -> Array:
    """Return an int16 head (side, side, side): balls in balls, white matter in two halves inside."""
    x, y, z = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j, -1 : 1 : side * 1j]
    away = np.sqrt((x / 0.8) ** 2 + y**2 + z**2) / 0.9
    labels = np.zeros((side, side, side), dtype=np.int16)
    for number, reach in ((SKIN, 1.0), (SOFT, 0.95), (BONE, 0.9), (FLUID, 0.78)):
        labels[away < reach] = number
    for left, right, reach in ((GREY_LEFT, GREY_RIGHT, 0.74), (WHITE_LEFT, WHITE_RIGHT, 0.6)):
        labels[(away < reach) & (x < 0)] = left
        labels[(away < reach) & (x >= 0)] = right
    return labels


def write_label_map(path: Path, labels: Array, millimetres: float = 3.0) -> Path:
    """Write a map as gzipped NIfTI and return its path."""
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([millimetres] * 3 + [1.0])), path)
    return path
