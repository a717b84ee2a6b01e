"""Lesion placement: the head's mask, and centres drawn where tumours grow.

Anywhere inside leaves out what a network must also look at. By the geometry of the head's mask alone, so
for any plane and sequence, centres are drawn more often than by area: in the middle (ventricles), next to
the skull (dura), in the lower part (posterior fossa and skull base where the picture stands upright, the
back where it is axial), and above the middle of the base (sella).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_AIR = 20.0  # grey values up to this are air
# How often a centre is drawn anywhere, in the middle, next to the skull, in the lower part, near the sella.
_SHARES = (0.4, 0.18, 0.16, 0.16, 0.1)
CELL = 4  # pixels a side: masks and maps go by cells


def head_masks(heads: Tensor) -> tuple[Tensor, Tensor]:
    """Return the head, holes closed, and what lies well inside it, as masks (n, 1, M, M) of 0 and 1.

    `heads` are float (n, 1, S, S) in 0..255; M = S // 4, as lesion maps have it: finer costs a hundredth of
    a training's time and changes nothing.
    """
    tissue = functional.avg_pool2d((heads > _AIR).float(), CELL)
    head = (mean_of_squares(tissue, 1) > 0.5).float()
    return head, (_depth(head) > 0.97).float()


def depth_in(head: Tensor, low: float = 0.68, high: float = 0.88) -> Tensor:
    """Return how far a lesion may show (n, 1, M, M): 1 inside, falling to 0 at the head's outer border.

    What grows below the skull leaves skull and scalp as they are. `head` are masks of `head_masks`; `low` and
    `high` are shares of a square, a seventh of the side wide, that the head covers: a half at its border.
    """
    inwards = mean_of_squares(head, max(1, round(head.shape[-1] / 14)))
    return ((inwards - low) / (high - low)).clamp(0, 1)


def enlarged(cells: Tensor, side: int) -> Tensor:
    """Return maps (n, 1, M, M) at the pictures' size (n, 1, S, S)."""
    return functional.interpolate(cells, size=(side, side), mode="bilinear", align_corners=False)


def tones(pictures: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and spread of the grey values (n, 1, 1, 1) in the cells of a mask (n, 1, M, M)."""
    cells = functional.avg_pool2d(pictures, CELL)
    count = where.sum((2, 3), keepdim=True) + 1e-6
    mean = (cells * where).sum((2, 3), keepdim=True) / count
    spread = (((cells - mean) * where).square().sum((2, 3), keepdim=True) / count).sqrt()
    return mean, spread


def mean_of_squares(mask: Tensor, reach: int) -> Tensor:
    """Return the mean of each pixel's square of 2 reach + 1, nothing beyond the picture's edge.

    From running sums: along the rows, then along the columns.
    """
    window = 2 * reach + 1
    sums = mask.float()
    for _ in range(2):
        running = functional.pad(sums, (reach + 1, reach)).cumsum(-1)
        sums = (running[..., window:] - running[..., :-window]).transpose(-1, -2)
    return sums / window**2


def draw_offsets(head: Tensor, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return each pixel's distance in x (n, 1, 1, S) and in y (n, 1, S, 1) from a centre drawn in the head.

    `head` are masks of `head_masks`. A head too small for a kind of place gets a centre anywhere inside; a
    picture without a head, anywhere.
    """
    count = len(head)
    weights = _weights(head)  # (n, kinds, M, M)
    kinds = torch.multinomial(torch.tensor(_SHARES), count, replacement=True, generator=generator)
    chosen = weights[torch.arange(count), kinds] + 1e-4 * weights[:, 0] + 1e-9
    cell = torch.multinomial(chosen.flatten(1), 1, generator=generator).view(-1, 1, 1, 1)
    spread = torch.randint(CELL, (2, count, 1, 1, 1), generator=generator)
    x = cell % chosen.shape[-1] * CELL + spread[0]
    y = cell // chosen.shape[-1] * CELL + spread[1]
    places = torch.arange(side, dtype=torch.float32)
    return places.view(1, 1, 1, -1) - x, places.view(1, 1, -1, 1) - y


def _depth(head: Tensor) -> Tensor:
    """Return a half at a straight border of the head, 1 from a tenth of the side inwards."""
    return mean_of_squares(head, max(1, head.shape[-1] // 10))


def _weights(head: Tensor) -> Tensor:
    """Return how likely each cell is a centre, for each kind of place: (n, kinds, M, M)."""
    depth = _depth(head) * head
    x, y = _frame(head)
    inside = (depth > 0.97).float()
    below = (depth > 0.8).float()
    return torch.cat(
        (
            inside,
            inside * _hill(x, 0.0, 0.3) * _hill(y, 0.0, 0.35),
            ((depth > 0.7) & (depth < 0.9)).float() * (y < 0.75),
            below * _hill(x, 0.0, 0.5) * _hill(y, 0.58, 0.2),
            below * _hill(x, 0.0, 0.16) * _hill(y, 0.3, 0.14),
        ),
        dim=1,
    )


def _hill(place: Tensor, top: float, width: float) -> Tensor:
    return torch.exp(-((place - top) / width).square())


def _frame(head: Tensor) -> tuple[Tensor, Tensor]:
    """Return each column's (n, 1, 1, M) and row's (n, 1, M, 1) place in the head's box: -1 to 1, y down."""
    frames = []
    for axis in (-2, -1):
        line = head.amax(axis)  # (n, 1, M): where the head is
        first, last = line.argmax(-1), line.shape[-1] - 1 - line.flip(-1).argmax(-1)
        half = ((last - first).float() / 2).clamp(min=1)
        places = torch.arange(line.shape[-1], dtype=torch.float32)
        frames.append((places - ((first + last) / 2).unsqueeze(-1)) / half.unsqueeze(-1))
    return frames[0].unsqueeze(-2), frames[1].unsqueeze(-1)
