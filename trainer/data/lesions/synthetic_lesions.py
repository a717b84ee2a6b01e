"""Lesions drawn into pictures without a tumour: the same place, scanner and patient, but a tumour.

Where tumours and healthy heads come from different collections, a network learns the collection. A
picture whose answer a drawn lesion turns to the other class cannot be told by its collection, only by
what was drawn. In the kind of "foreign patch interpolation" (Tan et al. 2020, "Detecting Outliers with
Foreign Patch Interpolation") and of "CutPaste" (Li et al. 2021), with shapes, tones and pushed-aside
tissue as tumours have them, bright or dark, whole, ringed or with an edge that fades.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from trainer.data.batch import Batch, changed
from trainer.data.lesions.chance import Chance
from trainer.data.lesions.placement import CELL, depth_in, draw_offsets, enlarged, head_masks, tones

# Radii as a share of the picture's side: from a hardly visible spot to a third of the head.
_SMALLEST, _LARGEST = 0.045, 0.2


def draw_lesions(
    batch: Batch, share: float, negative: int, positive: int, generator: torch.Generator
) -> Batch:
    """Return a batch in which a share of the negatives have a lesion, are positives and have its map.

    The pictures are uint8; what is given is left as it is. All chance comes from `generator`.
    """
    negatives = torch.nonzero(batch.labels == negative).flatten()
    chosen = negatives[torch.rand(len(negatives), generator=generator) < share]
    if not len(chosen):
        return batch
    drawn, lesion = _with_lesion(batch.pictures[chosen].float(), generator)
    return changed(batch, chosen, drawn, positive, functional.avg_pool2d(lesion, 4))


def _with_lesion(heads: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return float pictures (n, 1, S, S) in 0..255 with one lesion each, inside the head, and its mask."""
    chance = Chance(len(heads), generator)
    head, deep = head_masks(heads)
    side = heads.shape[-1]
    seen = enlarged(depth_in(head), side)
    across, along = draw_offsets(head, side, generator)
    distance = _distance(across, along, chance)
    pushed = push_aside(heads, (across, along), distance, chance.even(0.0, 0.35))
    pushed = heads + (pushed - heads) * seen
    tissue, _ = tones(heads, deep)
    pictures = _toned(pushed, distance, tissue, chance) * seen + pushed * (1 - seen)
    return pictures, (distance < 1) * seen


def _distance(across: Tensor, along: Tensor, chance: Chance) -> Tensor:
    """Return the distance from the centre (n, 1, S, S), 1 at the lesion's uneven border."""
    side = across.shape[-1]
    radius = chance.of_any_size(_SMALLEST, _LARGEST) * side
    stretch, turn = torch.exp(chance.even(-0.35, 0.35)), chance.even(0, math.pi)
    one = (across * turn.cos() + along * turn.sin()) / stretch
    other = (along * turn.cos() - across * turn.sin()) * stretch
    return (one.square() + other.square()).sqrt() / radius + chance.field(side, 9) * chance.even(0.05, 0.35)


def push_aside(heads: Tensor, offsets: tuple[Tensor, Tensor], distance: Tensor, strength: Tensor) -> Tensor:
    """Push the tissue around a centre outwards, less with the distance, as what grows there does.

    `offsets` are each pixel's distances from the centre in x and in y, `distance` (n, 1, S, S) is 1 at the
    border of what grows, `strength` (n, 1, 1, 1) is the share of the way to the border that tissue gives.
    """
    side = heads.shape[-1]
    # By cells, and enlarged: what pushes is smooth.
    across, along = offsets[0][..., 1::CELL] + 0.5, offsets[1][..., 1::CELL, :] + 0.5
    distance = functional.adaptive_avg_pool2d(distance, (along.shape[-2], across.shape[-1]))
    strength = strength * torch.exp(-1.2 * (distance - 1).clamp(min=0)) * (distance > 0)
    given = torch.where(distance < 1, strength, strength / distance.clamp(min=1))
    moved = enlarged(torch.cat((across * given, along * given), 1), side)
    places = torch.arange(side, dtype=torch.float32)
    x, y = places.view(1, 1, 1, -1) - moved[:, :1], places.view(1, 1, -1, 1) - moved[:, 1:]
    grid = torch.cat((x, y), 1).permute(0, 2, 3, 1) / (side - 1) * 2 - 1  # (n, S, S, 2)
    return functional.grid_sample(heads, grid, mode="bilinear", align_corners=True)


def _toned(heads: Tensor, distance: Tensor, tissue: Tensor, chance: Chance) -> Tensor:
    """Give the inside another tone: brighter, darker or ringed, with a grain and sometimes a swelling."""
    side = heads.shape[-1]
    kind = chance.even(0, 1)
    body = torch.sigmoid((1 - distance) * 2 / chance.of_any_size(0.03, 0.3))
    brighter = chance.of_any_size(_FAINT, 1.1) * tissue
    darker = -chance.of_any_size(_FAINT, 0.8) * tissue
    core = torch.where(kind < 0.45, brighter, torch.where(kind < 0.7, darker, brighter * 0.5))
    ring = torch.exp(-((distance - 0.85) / chance.even(0.08, 0.25)).square()) * brighter
    ring = ring * chance.even(0.5, 1.2) * (kind > 0.55)
    grain = 1 + chance.field(side, max(8, side // 6)) * chance.even(0, 0.25)
    swelling = torch.exp(-(distance - 1).clamp(min=0) / chance.even(0.15, 0.6)) * (distance > 1)
    swelling = swelling * brighter * chance.even(0, 0.5) * (chance.even(0, 1) < 0.5)
    # Inside, the tissue's own detail is mostly lost.
    lost = body * chance.even(0.5, 1.0) * (kind < 0.8)
    return heads * (1 - lost) + tissue * lost + (body * core + ring) * grain + swelling


# The faintest lesion differs from the tissue by so much of the tissue's grey. With 0.15 networks found less
# in sources left out: what no radiologist would see teaches them to see too much.
_FAINT = 0.35
