"""What an engine changed, for tests of engines."""

from __future__ import annotations

import numpy as np

from daemon.engines.base import EngineOutput
from daemon.engines.parity import TOLERANCE
from trainer.model.prediction import probabilities
from trainer.model.spec import ModelSpec


def changed(said: EngineOutput, reference: EngineOutput, spec: ModelSpec) -> int:
    """Return on how many pictures an engine says something that it may not.

    That is another label farther than the tolerance from the threshold, or a confidence that is off by more.
    """
    ours, theirs = (probabilities(one.logits, spec.decision.temperature) for one in (said, reference))
    off = ~(np.abs(ours - theirs).max(axis=1) <= TOLERANCE)
    positive = spec.decision.positive
    assert positive is not None
    place, threshold = spec.classes.index(positive), spec.decision.threshold
    clear = np.abs(theirs[:, place] - threshold) > TOLERANCE
    labels = clear & ((ours[:, place] >= threshold) != (theirs[:, place] >= threshold))
    return int((off | labels).sum())
