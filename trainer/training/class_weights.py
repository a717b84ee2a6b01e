"""Class weights of the loss: "none", "balanced", or a number for some classes ("yes=2,no=1")."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from config.errors import UsageError
from config.text import printable
from trainer.images.arrays import Floats, Ints

NONE, BALANCED = "none", "balanced"
_HINT = "write balanced, none, or yes=2,no=1"


def parse_class_weights(text: str) -> dict[str, float]:
    """Return the weight of each class that "A=2,B=1" names; raise UsageError for other text."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, separator, number = (piece.strip() for piece in part.rpartition("="))
        try:
            weights[name] = float(number)
        except ValueError:
            weights[name] = math.nan
        if not (separator and name and math.isfinite(weights[name]) and weights[name] > 0):
            raise UsageError(f"--class-weights {printable(repr(text))} cannot be meant", hint=_HINT)
    return weights


def class_weights(text: str, classes: Sequence[str], labels: Ints) -> Floats | None:
    """Return what each class (classes,) weighs in the loss, None where all weigh the same.

    "balanced" is n / (classes * n of the class) of the training labels (n,), as scikit-learn has it. A class
    that is not named weighs 1. Raises UsageError for a class that is not there.
    """
    if text == NONE:
        return None
    if text == BALANCED:
        counts = np.bincount(labels, minlength=len(classes))
        return np.asarray(len(labels) / (len(classes) * np.maximum(1, counts)), dtype=np.float32)
    given = parse_class_weights(text)
    if unknown := [name for name in given if name not in classes]:
        raise UsageError(
            f"--class-weights names {printable(', '.join(unknown))}, which is no class",
            hint=f"classes are {', '.join(map(printable, classes))}",
        )
    return np.array([given.get(name, 1.0) for name in classes], dtype=np.float32)
