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
_CELL = 4  # pixels: centres are drawn by cells, then anywhere within


def head_masks(heads: Tensor) -> tuple[Tensor, Tensor]:
    """Return the head, holes closed, and what lies well inside it, as masks (n, 1, S, S) of 0 and 1.

    `heads` are float (n, 1, S, S) in 0..255.
    """
    head = (mean_of_squares(heads > _AIR, 4) > 0.5).float()
    deep = (mean_of_squares(head, heads.shape[-1] // 10) > 0.97).float()
    return head, deep


def within(head: Tensor) -> Tensor:
    """Return how far a lesion may show (n, 1, S, S): 1 inside, falling to 0 at the head's outer border.

    What grows below the skull leaves skull and scalp as they are.
    """
    return ((mean_of_squares(head, head.shape[-1] // 14) - 0.65) * 5).clamp(0, 1)


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


def draw_offsets(head: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return each pixel's distance in x (n, 1, 1, S) and in y (n, 1, S, 1) from a centre drawn in the head.

    `head` are masks (n, 1, S, S) as `head_masks` gives them. A head too small for a place gets a centre
    anywhere inside; a picture without a head, anywhere.
    """
    count, side = len(head), head.shape[-1]
    weights = _weights(head)  # (n, kinds, side / 4, side / 4)
    kinds = torch.multinomial(torch.tensor(_SHARES), count, replacement=True, generator=generator)
    chosen = weights[torch.arange(count), kinds] + 1e-4 * weights[:, 0] + 1e-9
    cell = torch.multinomial(chosen.flatten(1), 1, generator=generator).view(-1, 1, 1, 1)
    spread = torch.randint(_CELL, (2, count, 1, 1, 1), generator=generator)
    x = cell % chosen.shape[-1] * _CELL + spread[0]
    y = cell // chosen.shape[-1] * _CELL + spread[1]
    places = torch.arange(side, dtype=torch.float32)
    return places.view(1, 1, 1, -1) - x, places.view(1, 1, -1, 1) - y


def _weights(head: Tensor) -> Tensor:
    """Return how likely each cell is a centre, for each kind of place: (n, kinds, S / 4, S / 4)."""
    # A half at a straight border, 1 from a tenth of the side inwards.
    depth = mean_of_squares(head, head.shape[-1] // 10)[..., ::_CELL, ::_CELL]
    x, y = _frame(head)
    x, y = x[..., ::_CELL], y[..., ::_CELL, :]
    inside = (depth > 0.97).float()
    below = (depth > 0.8).float()
    return torch.cat(
        (
            inside,
            inside * _hill(x, 0.0, 0.3) * _hill(y, 0.0, 0.35),
            ((depth > 0.75) & (depth < 0.93)).float() * (y < 0.75),
            below * _hill(x, 0.0, 0.5) * _hill(y, 0.58, 0.2),
            below * _hill(x, 0.0, 0.16) * _hill(y, 0.3, 0.14),
        ),
        dim=1,
    )


def _hill(place: Tensor, top: float, width: float) -> Tensor:
    return torch.exp(-((place - top) / width).square())


def _frame(head: Tensor) -> tuple[Tensor, Tensor]:
    """Return each column's (n, 1, 1, S) and row's (n, 1, S, 1) place in the head's box: -1 to 1, y down."""
    frames = []
    for axis in (-2, -1):
        line = head.amax(axis)  # (n, 1, S): where the head is
        first, last = line.argmax(-1), line.shape[-1] - 1 - line.flip(-1).argmax(-1)
        half = ((last - first).float() / 2).clamp(min=1)
        places = torch.arange(line.shape[-1], dtype=torch.float32)
        frames.append((places - ((first + last) / 2).unsqueeze(-1)) / half.unsqueeze(-1))
    return frames[0].unsqueeze(-2), frames[1].unsqueeze(-1)
