"""Array types: names for the dtypes that pass between modules; shapes stand in the docstrings."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Grey = npt.NDArray[np.uint8]  # pictures, 0..255: grey (..., S, S), in colour (..., S, S, 3)


def planes(pictures: Grey) -> Grey:
    """Return pictures (n, S, S[, 3]) as networks take them, (n, 1 or 3, S, S): a view."""
    return pictures[:, None] if pictures.ndim == 3 else np.moveaxis(pictures, -1, 1)


def from_planes(batch: Grey) -> Grey:
    """Return what `planes` was given for its answer (n, 1 or 3, S, S)."""
    return batch[:, 0] if batch.shape[1] == 1 else np.ascontiguousarray(np.moveaxis(batch, 1, -1))
