"""Tumours healed: filled with the mirrored other side of the same head, which then counts as tumour-free.

Where a source has tumours only, its look means a tumour; a healed picture has the look and not the tumour.
Only what can be healed is: lesions whose place is known, on one side of a head that is alike on both (axial
and coronal slices; a sagittal one is not).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from trainer.data.batch import Batch, changed
from trainer.data.lesions.blending import blended, grown, soft_cover, with_tones_of
from trainer.data.lesions.placement import CELL, enlarged, head_masks

# Axes tried: degrees from upright, and shifts of the middle as a share of half the picture's side.
_ANGLES, _SHIFTS = range(-20, 21, 4), tuple(0.03 * step for step in range(-4, 5))
# From these on a head counts as symmetric: the correlation of its two sides, lesion left out, and the overlap
# (Jaccard index) of its mask with its mirror image. Of 64 real heads the 56 axial and coronal ones had at
# least 0.86 and 0.89, the 8 sagittal ones at most 0.83 and 0.83.
_ALIKE, _OVERLAP = 0.86, 0.87
_COARSE = 20  # cells a side at least, to find the axis by
_CROSSING = 0.1  # the share of a lesion that may lie on its own mirror image
_LARGEST = 0.14  # of the picture: what is larger has moved the middle
# The mean difference of the sides right round the lesion, as a share of the tissue's grey: more is a
# swelling, which the mask or box leaves out and the healed picture would still show.
_UNLIKE_AROUND = 0.2


def heal(batch: Batch, share: float, negative: int, positive: int, generator: torch.Generator) -> Batch:
    """Return a batch in which a share of the positives with a known map have their lesion filled.

    Label becomes negative and the map empty. Of those drawn, the ones whose lesion crosses the middle, is
    too large or has no healthy counterpart stay as they are. All chance comes from `generator`.
    """
    annotated = (batch.labels == positive) & batch.known & (batch.maps.sum((1, 2, 3)) > 0)
    places = torch.nonzero(annotated).flatten()
    places = places[torch.rand(len(places), generator=generator) < share]
    if not len(places):
        return batch
    around = max(1, round(batch.maps.shape[-1] / 20))  # cells: the lesion's edge heals too
    heads, lesion = batch.pictures[places].float(), grown(batch.maps[places], around)
    reflection, fit = _symmetric(heads, lesion)
    places, heads, lesion, reflection = places[fit], heads[fit], lesion[fit], reflection[fit]
    if not len(places):
        return batch
    healed = _filled(heads, lesion, reflection)
    return changed(batch, places, healed, negative, torch.zeros_like(batch.maps[places]))


def _symmetric(heads: Tensor, lesion: Tensor) -> tuple[Tensor, Tensor]:
    """Return each head's reflection (n, 2, 3), and whether the other side can stand in for the lesion."""
    reflection, alike = _axis(heads, lesion)
    cells, (head, _) = functional.avg_pool2d(heads, CELL), head_masks(heads)
    mirrored = _reflected(torch.cat((lesion, head, cells), 1), reflection)
    crossing = (lesion * mirrored[:, :1]).sum((1, 2, 3)) / lesion.sum((1, 2, 3))
    both, either = torch.minimum(head, mirrored[:, 1:2]), torch.maximum(head, mirrored[:, 1:2])
    overlap = both.sum((1, 2, 3)) / (either.sum((1, 2, 3)) + 1e-6)
    ring = (grown(lesion, 1) - lesion).clamp(min=0) * both
    difference = ((cells - mirrored[:, 2:]).abs() * ring).sum((1, 2, 3)) / (ring.sum((1, 2, 3)) + 1e-6)
    tissue = (cells * head).sum((1, 2, 3)) / (head.sum((1, 2, 3)) + 1e-6)
    fit = (alike > _ALIKE) & (overlap > _OVERLAP) & (crossing < _CROSSING)
    return reflection, fit & (lesion.mean((1, 2, 3)) < _LARGEST) & (difference < _UNLIKE_AROUND * tissue)


def _filled(heads: Tensor, lesion: Tensor, reflection: Tensor) -> Tensor:
    """Return the heads with the other side where the lesion is (n, 1, M, M), softly and in their tones."""
    cover = soft_cover(enlarged(lesion, heads.shape[-1]), 0.05, 0.6)
    head, _ = head_masks(heads)
    pieces = with_tones_of(heads, _reflected(heads, reflection), cover, head)
    return blended(heads, pieces, cover)


def _axis(heads: Tensor, lesion: Tensor) -> tuple[Tensor, Tensor]:
    """Return the reflection (n, 2, 3) under which a head is most alike, lesion left out, and how much so.

    That is the correlation of the grey values, air with them, and their mirror image: tried for each of a few
    axes, coarsely.
    """
    coarse = functional.adaptive_avg_pool2d(heads, max(_COARSE, heads.shape[-1] // (2 * CELL)))
    weight = 1 - functional.adaptive_avg_pool2d(lesion, coarse.shape[-1]).clamp(max=1)
    tried = torch.stack([_reflection(angle, shift) for angle in _ANGLES for shift in _SHIFTS])
    scores = torch.stack([_likeness(coarse, weight, axis) for axis in tried], 1)  # (n, axes)
    best, place = scores.max(1)
    return tried[place], best


def _likeness(heads: Tensor, weight: Tensor, axis: Tensor) -> Tensor:
    """Return the correlation (n,) of pictures and their mirror images, where both are of weight."""
    both = _reflected(torch.cat((heads, weight), 1), axis.expand(len(heads), 2, 3))
    pair = torch.cat((heads, both[:, :1]), 1)
    share = weight * both[:, 1:]
    mean = (pair * share).sum((2, 3), keepdim=True) / (share.sum((2, 3), keepdim=True) + 1e-6)
    pair = pair - mean
    spread = (pair.square() * share).sum((2, 3)).prod(1).sqrt()
    return (pair.prod(1, keepdim=True) * share).sum((1, 2, 3)) / (spread + 1e-6)


def _reflection(degrees: float, shift: float) -> Tensor:
    """Return the affine map (2, 3) that mirrors left and right, in a frame from -1 to 1."""
    x, y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))  # across the axis
    return torch.tensor(
        [[1 - 2 * x * x, -2 * x * y, 2 * shift * x], [-2 * x * y, 1 - 2 * y * y, 2 * shift * y]]
    )


def _reflected(pictures: Tensor, reflection: Tensor) -> Tensor:
    grid = functional.affine_grid(reflection, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
