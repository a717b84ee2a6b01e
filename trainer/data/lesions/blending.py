"""Blending a piece of one picture into another: soft covers, tones matched along the border."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from trainer.data.lesions.placement import CELL, enlarged, mean_of_squares


def blended(hosts: Tensor, pieces: Tensor, cover: Tensor) -> Tensor:
    """Return the hosts with the pieces where `cover` is 1, all float (n, 1, S, S); between, in between."""
    return hosts + (pieces - hosts) * cover


def soft_cover(shares: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Return a cover that rises smoothly from 0 where the share is `low` to 1 where it is `high`."""
    risen = ((shares - low) / (high - low)).clamp(0, 1)
    return risen.square() * (3 - 2 * risen)


def grown(maps: Tensor, cells: int) -> Tensor:
    """Return the maps (n, 1, M, M), not negative, grown by so many cells on every side."""
    return functional.max_pool2d(maps, 2 * cells + 1, 1, cells)


def with_tones_of(hosts: Tensor, pieces: Tensor, cover: Tensor, head: Tensor) -> Tensor:
    """Return the pieces with the host's tones along the border of the cover, and in between inside.

    The difference of the two in a ring round the cover is spread inwards by a normalised convolution
    (Knutsson and Westin 1993), in place of the membrane that Poisson blending (Perez et al. 2003) solves
    for: a hundredth of the work, and as smooth. `head` is the host's mask (n, 1, M, M): air matches nothing.
    """
    covered = functional.avg_pool2d(cover, CELL)
    ring = ((grown(covered, 2) > 0.1) & (covered < 0.3)).float() * head
    difference, weight = functional.avg_pool2d(hosts - pieces, CELL) * ring, ring
    for reach in (head.shape[-1] // 10, head.shape[-1] // 6):
        difference, weight = mean_of_squares(difference, reach), mean_of_squares(weight, reach)
    return pieces + enlarged(difference / (weight + 1e-4), hosts.shape[-1])
