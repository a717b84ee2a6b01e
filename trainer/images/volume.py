"""Choose the slices of a volume to judge, whatever file it came in (NIfTI, DICOM, TIFF).

Every slice that shows some of the head is judged, as it is when the volume comes as a file a slice; empty
ones, which a padded or defaced volume has, tell nothing and are passed over. Of the others at most
`Limits.max_slices` are taken, evenly spaced, and no more than together have `Limits.max_pixels`.
`trainer.model.aggregate` makes one answer of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.images.arrays import Array
from trainer.images.picture import Limits

# A pixel shows something if it is above this share of the volume's range, as in `preprocess`; a
# slice is empty if that share of its pixels is below a fiftieth of the fullest slice's.
_FOREGROUND = 0.12
_ENOUGH = 0.02
_SAMPLE_SIDE = 64  # pixels: areas are estimated on a coarse grid


def evenly_spaced(indices: Sequence[int], limits: Limits, pixels: int) -> list[int]:
    """Return at most as many of the indices as the limits allow for slices of that many pixels."""
    most = max(1, min(limits.max_slices, limits.max_pixels // max(1, pixels)))
    if len(indices) <= most:
        return list(indices)
    return [indices[(2 * number + 1) * len(indices) // (2 * most)] for number in range(most)]


def sample(values: Array) -> Array:
    """Return a coarse copy of a slice (height, width), enough for `with_head`."""
    step = max(1, min(values.shape[:2]) // _SAMPLE_SIDE)
    return np.nan_to_num(np.asarray(values[::step, ::step], dtype=np.float32))


def with_head(samples: Sequence[Array]) -> list[int]:
    """Return the places of the samples, all of one volume, that show enough; at least one."""
    if len(samples) < 2:
        return list(range(len(samples)))
    low, high = np.percentile(np.concatenate([part.ravel() for part in samples]), (1, 99))
    shares = [float((part > low + _FOREGROUND * (high - low)).mean()) for part in samples]
    least = _ENOUGH * max(shares)
    return [number for number, share in enumerate(shares) if share >= least]
