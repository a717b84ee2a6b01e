"""Engine interface: batches of pictures in, logits, pooled features and activation maps out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trainer.images.arrays import Floats, Grey


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """One forward pass of a batch."""

    logits: Floats  # (batch, classes)
    features: Floats  # (batch, channels)
    maps: Floats  # (batch, classes, h, w), class-activation maps


class Engine(Protocol):
    """Computes a network; belongs to one thread."""

    def run(self, batch: Grey) -> EngineOutput:
        """Return what the network says of pictures (batch, S, S[, 3]) uint8."""
