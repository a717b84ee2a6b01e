"""Blending a piece of one picture into another: soft covers, tones matched along the border."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from trainer.data.placement import mean_of_squares


def blended(hosts: Tensor, pieces: Tensor, cover: Tensor) -> Tensor:
    """Return the hosts with the pieces where `cover` is 1, all float (n, 1, S, S); between, in between."""
    return hosts + (pieces - hosts) * cover


def soft_cover(shares: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Return a cover that rises smoothly from 0 where the share is `low` to 1 where it is `high`."""
    risen = ((shares - low) / (high - low)).clamp(0, 1)
    return risen.square() * (3 - 2 * risen)


def enlarged(maps: Tensor, side: int) -> Tensor:
    """Return lesion maps (n, 1, M, M) at the pictures' size (n, 1, S, S)."""
    return functional.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)


def grown(maps: Tensor, cells: int) -> Tensor:
    """Return the maps (n, 1, M, M), not negative, grown by so many cells on every side."""
    return functional.max_pool2d(maps, 2 * cells + 1, 1, cells)


def with_tones_of(hosts: Tensor, pieces: Tensor, cover: Tensor, head: Tensor) -> Tensor:
    """Return the pieces with the host's tones along the border of the cover, and in between inside.

    The difference of the two in a ring round the cover is spread inwards by a normalised convolution
    (Knutsson and Westin 1993), in place of the membrane that Poisson blending (Perez et al. 2003) solves
    for: a hundredth of the work, and as smooth. `head` is the host's mask: air matches nothing.
    """
    side = hosts.shape[-1]
    ring = ((mean_of_squares(cover, side // 32) > 0.02) & (cover < 0.3)).float() * head
    difference, weight = (hosts - pieces) * ring, ring
    for reach in (side // 10, side // 6):
        difference, weight = mean_of_squares_of(difference, reach), mean_of_squares_of(weight, reach)
    return pieces + difference / (weight + 1e-4)


def mean_of_squares_of(values: Tensor, reach: int) -> Tensor:
    """Return `mean_of_squares` at a quarter of the size, enlarged again: smooth anyway, and cheap."""
    small = functional.avg_pool2d(values, 4)
    return enlarged(mean_of_squares(small, max(1, reach // 4)), values.shape[-1])
