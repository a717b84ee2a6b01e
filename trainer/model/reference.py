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

_LOGITS, _FEATURES = "reference.logits", "reference.features"
# Share of the largest number: processors that add in another order differ by about 1e-6.
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Reference:
    """What a network says of `trainer.model.probes.probes`."""

    logits: Floats  # (64, classes)
    features: Floats  # (64, channels)

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what goes into the weights file."""
        return {_LOGITS: self.logits, _FEATURES: self.features}

    def difference(self, logits: Floats, features: Floats) -> str:
        """Return in words how an engine's answers to the probes differ, "" if they do not."""
        for name, ours, theirs in (("logits", logits, self.logits), ("features", features, self.features)):
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
    logits, features = tensors.get(_LOGITS), tensors.get(_FEATURES)
    if logits is None and features is None:
        return None
    if (
        logits is None
        or features is None
        or logits.shape != (PROBES, classes)
        or features.ndim != 2
        or len(features) != PROBES
    ):
        raise WeightsError(
            "the weights file's reference answers are damaged", hint="copy it again, or train it again"
        )
    return Reference(logits.astype(np.float32), features.astype(np.float32))
