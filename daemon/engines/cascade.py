"""A quick engine, and an exact one for the images whose answer the quick one's rounding could change.

Most images are far from every boundary: rounding moves their answers by less than is allowed. The few
that are not are computed again, so answers are those of the exact engine at less than its cost: two thirds
for the shipped model (tests/measured/agreement.json). (Viola and Jones 2001, "Rapid Object Detection using a
Boosted Cascade of Simple Features", for the idea of spending computation where it decides something.)
"""

from __future__ import annotations

from daemon.engines.base import Engine, EngineOutput
from daemon.engines.manifest import ErrorBound
from daemon.engines.parity import doubtful
from trainer.images.arrays import Grey
from trainer.model.spec import ModelSpec
from trainer.model.weights import Tensors


class CascadeEngine:
    """Runs everything through one engine and what is doubtful through another."""

    def __init__(
        self, quick: Engine, exact: Engine, slack: ErrorBound, spec: ModelSpec, tensors: Tensors
    ) -> None:
        """Take two engines of one network; `slack` is how far the quick one may be off."""
        self._quick = quick
        self._exact = exact
        self._slack = slack
        self._spec = spec
        self._tensors = tensors

    def run(self, batch: Grey) -> EngineOutput:
        """Return what the network says of pictures (batch, S, S) uint8."""
        said = self._quick.run(batch)
        again = doubtful(said.logits, said.features, self._slack, self._spec, self._tensors)
        if again.any():
            exactly = self._exact.run(batch[again])
            said.logits[again] = exactly.logits
            said.features[again] = exactly.features
            said.maps[again] = exactly.maps
        return said
