"""Body: the convolutional part of a classifier, whatever its architecture."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Body(Protocol):
    """Turns normalised images (batch, 1 or 3, S, S) into a map (batch, channels, h, w)."""

    @property
    def parts(self) -> list[nn.Module]:
        """What can be kept as it is while the rest is trained, in order."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the map, and the texture (batch, k) of a body that tells of one."""

    def centre(self, images: Tensor) -> None:
        """Prepare for bfloat16 with normalised images like those to come; nothing where nothing is gained."""


class PlainBody(nn.Sequential):
    """Layers one after another: without texture, parts or centring."""

    @property
    def parts(self) -> list[nn.Module]:
        """Nothing: it is trained as a whole."""
        return []

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Return the map (batch, channels, h, w) of normalised images, and no texture."""
        for layer in self:
            x = layer(x)
        return x, None

    def centre(self, images: Tensor) -> None:
        """Do nothing: measured for the Lite0s only."""
