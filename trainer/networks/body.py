"""Body: the convolutional part of a classifier, whatever its architecture."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor, nn


class BodyOutput(NamedTuple):
    """What a body makes of pictures."""

    features: Tensor  # (batch, channels, h, w)
    texture: Tensor | None = None  # (batch, k), of a body that tells of one
    joined: Tensor | None = None  # (batch, m, 2h, 2w), what lesions are localised in, of a body that does


class Body(Protocol):
    """Turns normalised images (batch, 1 or 3, S, S) into a map (batch, channels, h, w)."""

    @property
    def parts(self) -> list[nn.Module]:
        """What can be kept as it is while the rest is trained, in order."""

    def __call__(self, x: Tensor) -> BodyOutput:
        """Return the map, and what else this body tells of."""

    def centre(self, images: Tensor) -> None:
        """Prepare for bfloat16 with normalised images like those to come; nothing where nothing is gained."""

    def fold(self) -> None:
        """Compute the same faster until training or evaluation is switched to, without gradients."""


class PlainBody(nn.Sequential):
    """Layers one after another: without texture, parts or centring."""

    @property
    def parts(self) -> list[nn.Module]:
        """Nothing: it is trained as a whole."""
        return []

    def forward(self, x: Tensor) -> BodyOutput:
        """Return the map (batch, channels, h, w) of normalised images, and nothing else."""
        for layer in self:
            x = layer(x)
        return BodyOutput(x)

    def centre(self, images: Tensor) -> None:
        """Do nothing: measured for the Lite0s only."""

    def fold(self) -> None:
        """Do nothing: norms are folded in by the Lite0s only."""
