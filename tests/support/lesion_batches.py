"""Batches of drawn heads with lesions whose place is known, as a training step gets them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainer.data.batch import Batch
from trainer.images.phantom import phantom
from trainer.model.preprocess import preprocess
from trainer.model.spec import Preprocessing

NO, YES = 0, 1


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def healthy_heads(count: int, side: int = 64) -> Batch:
    """Drawn heads without a lesion; all maps known and empty."""
    how = Preprocessing(image_size=side)
    heads = np.stack([preprocess(phantom(n, lesion=False, label=False), how) for n in range(count)])
    return Batch(
        torch.from_numpy(heads)[:, None],
        torch.full((count,), NO),
        torch.zeros(count, 1, side // 4, side // 4),
        torch.ones(count, dtype=torch.bool),
    )


def heads_with_tumours(count: int, side: int = 64, *, place: float = 0.3) -> Batch:
    """The same heads with a white disc at a share of the width from the left, and its map."""
    heads = healthy_heads(count, side)
    disc = disc_at(side, place * side, side * 0.5, side * 0.09)
    pictures = torch.where(disc > 0, torch.tensor(255, dtype=torch.uint8), heads.pictures)
    maps = functional.avg_pool2d(disc, 4).expand(count, -1, -1, -1)
    return Batch(pictures, torch.full((count,), YES), maps.clone(), heads.known)


def disc_at(side: int, x: float, y: float, radius: float) -> Tensor:
    """A disc of ones (1, 1, side, side)."""
    places = torch.arange(side, dtype=torch.float32)
    inside = (places.view(1, -1) - x).square() + (places.view(-1, 1) - y).square() < radius**2
    return inside.float()[None, None]


def joined(one: Batch, other: Batch) -> Batch:
    return Batch(
        torch.cat((one.pictures, other.pictures)),
        torch.cat((one.labels, other.labels)),
        torch.cat((one.maps, other.maps)),
        torch.cat((one.known, other.known)),
    )
