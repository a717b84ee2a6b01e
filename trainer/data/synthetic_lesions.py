"""Lesions drawn into pictures without a tumour: the same place, scanner and patient, but a tumour.

Where tumours and healthy heads come from different collections, a network learns the collection. A
picture whose answer a drawn lesion turns to the other class cannot be told by its collection, only by
what was drawn. In the kind of "foreign patch interpolation" (Tan et al. 2020, "Detecting Outliers with
Foreign Patch Interpolation") and of "CutPaste" (Li et al. 2021), with shapes, tones and pushed-aside
tissue as tumours have them, bright or dark, whole, ringed or with an edge that fades.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.data.batch import Batch

# Radii as a share of the picture's side: from a hardly visible spot to a third of the head.
_SMALLEST, _LARGEST = 0.045, 0.2
_AIR = 20.0  # grey values up to this are air


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
    pictures, labels = batch.pictures.clone(), batch.labels.clone()
    maps, known = batch.maps.clone(), batch.known.clone()
    pictures[chosen] = drawn.round().clamp(0, 255).to(torch.uint8)
    labels[chosen] = positive
    maps[chosen] = functional.avg_pool2d(lesion, 4)
    known[chosen] = True
    return Batch(pictures, labels, maps, known)


@dataclass(frozen=True, slots=True)
class _Chance:
    """Numbers for each of `count` pictures, shaped to multiply them."""

    count: int
    source: torch.Generator

    def even(self, low: float, high: float) -> Tensor:
        return torch.rand(self.count, 1, 1, 1, generator=self.source) * (high - low) + low

    def of_any_size(self, low: float, high: float) -> Tensor:
        return torch.exp(self.even(math.log(low), math.log(high)))

    def field(self, side: int, knots: int) -> Tensor:
        """Smooth noise (count, 1, side, side) of about unit size."""
        coarse = torch.randn(self.count, 1, knots, knots, generator=self.source)
        return functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)


def _with_lesion(heads: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return float pictures (n, 1, S, S) in 0..255 with one lesion each, inside the head, and its mask."""
    chance = _Chance(len(heads), generator)
    head, deep = _inside(heads)
    across, along = _offsets(deep, generator)
    distance = _distance(across, along, chance)
    pushed = _pushed(heads, across, along, distance, chance)
    tissue = ((heads * deep).sum((2, 3)) / (deep.sum((2, 3)) + 1)).view(-1, 1, 1, 1)
    pictures = _toned(pushed, distance, tissue, chance) * head + pushed * (1 - head)
    return pictures, (distance < 1) * head


def _inside(heads: Tensor) -> tuple[Tensor, Tensor]:
    """Return the head, holes closed, and what lies well inside it, as masks (n, 1, S, S)."""
    head = (_mean_of_squares(heads > _AIR, 4) > 0.5).float()
    deep = (_mean_of_squares(head, heads.shape[-1] // 10) > 0.97).float()
    return head, deep


def _mean_of_squares(mask: Tensor, reach: int) -> Tensor:
    """Return the mean of each pixel's square of 2 reach + 1, nothing beyond the picture's edge.

    From running sums: along the rows, then along the columns.
    """
    window = 2 * reach + 1
    sums = mask.float()
    for _ in range(2):
        running = functional.pad(sums, (reach + 1, reach)).cumsum(-1)
        sums = (running[..., window:] - running[..., :-window]).transpose(-1, -2)
    return sums / window**2


def _offsets(deep: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return each pixel's distance in x and in y from a centre drawn inside the head."""
    side = deep.shape[-1]
    centre = torch.multinomial(deep.flatten(1) + 1e-9, 1, generator=generator).view(-1, 1, 1, 1)
    places = torch.arange(side, dtype=torch.float32)
    return places.view(1, 1, 1, -1) - centre % side, places.view(1, 1, -1, 1) - centre // side


def _distance(across: Tensor, along: Tensor, chance: _Chance) -> Tensor:
    """Return the distance from the centre (n, 1, S, S), 1 at the lesion's uneven border."""
    side = across.shape[-1]
    radius = chance.of_any_size(_SMALLEST, _LARGEST) * side
    stretch, turn = torch.exp(chance.even(-0.35, 0.35)), chance.even(0, math.pi)
    one = (across * turn.cos() + along * turn.sin()) / stretch
    other = (along * turn.cos() - across * turn.sin()) * stretch
    return (one.square() + other.square()).sqrt() / radius + chance.field(side, 9) * chance.even(0.05, 0.35)


def _pushed(heads: Tensor, across: Tensor, along: Tensor, distance: Tensor, chance: _Chance) -> Tensor:
    """Push the tissue around the centre outwards, less with the distance, as what grows there does."""
    side = heads.shape[-1]
    strength = chance.even(0.0, 0.35) * torch.exp(-1.2 * (distance - 1).clamp(min=0)) * (distance > 0)
    shrink = torch.where(distance < 1, 1 - strength, 1 - strength / distance.clamp(min=1))
    places = torch.arange(side, dtype=torch.float32)
    x = places.view(1, 1, 1, -1) - across * (1 - shrink)
    y = places.view(1, 1, -1, 1) - along * (1 - shrink)
    grid = torch.cat((x, y), 1).permute(0, 2, 3, 1) / (side - 1) * 2 - 1  # (n, S, S, 2)
    return functional.grid_sample(heads, grid, mode="bilinear", align_corners=True)


def _toned(heads: Tensor, distance: Tensor, tissue: Tensor, chance: _Chance) -> Tensor:
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
