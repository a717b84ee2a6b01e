"""Reference answers: what a network says of the probe pictures, computed in float32 where it was trained.

They lie in the weights file, so that whoever makes an engine of it can show that it computes what the
trainer's network computed, without that network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from config.errors import WeightsError
from trainer.images.arrays import Floats
from trainer.model.probes import PROBES

_LOGITS, _FEATURES, _MAPS = "reference.logits", "reference.features", "reference.maps"
# Share of the largest number: processors that add in another order differ by about 1e-6.
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Reference:
    """What a network says of `trainer.model.probes.probes`."""

    logits: Floats  # (64, classes)
    features: Floats  # (64, channels)
    maps: Floats | None = None  # (64, classes), each map's mean; files of earlier versions have none

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what goes into the weights file."""
        tensors: dict[str, npt.NDArray[np.generic]] = {_LOGITS: self.logits, _FEATURES: self.features}
        return tensors if self.maps is None else tensors | {_MAPS: self.maps}

    def difference(self, logits: Floats, features: Floats, maps: Floats) -> str:
        """Return in words how an engine's answers to the probes differ, "" if they do not.

        `maps` are whole, (64, classes, h, w).
        """
        pairs = [("logits", logits, self.logits), ("features", features, self.features)]
        if self.maps is not None:
            pairs.append(("maps", maps.mean(axis=(2, 3)), self.maps))
        for name, ours, theirs in pairs:
            if ours.shape != theirs.shape:
                return f"{name} are {ours.shape[1:]}, not {theirs.shape[1:]}"
            off = float(np.abs(ours - theirs).max())
            if not off <= _TOLERANCE * max(1.0, float(np.abs(theirs).max())):  # also refuses NaN
                return f"{name} differ by {off:.3g}"
        return ""


def stored_reference(tensors: Mapping[str, npt.NDArray[np.generic]], classes: int) -> Reference | None:
    """Return a weights file's reference; None for a file of an earlier version, which has none.

    Raises WeightsError if what is stored cannot be one.
    """
    logits, features, maps = (tensors.get(name) for name in (_LOGITS, _FEATURES, _MAPS))
    if logits is None and features is None and maps is None:
        return None
    if (
        logits is None
        or features is None
        or logits.shape != (PROBES, classes)
        or features.ndim != 2
        or len(features) != PROBES
        or (maps is not None and maps.shape != logits.shape)
    ):
        raise WeightsError(
            "the weights file's reference answers are damaged", hint="copy it again, or train it again"
        )
    narrow = None if maps is None else maps.astype(np.float32)
    return Reference(logits.astype(np.float32), features.astype(np.float32), narrow)
