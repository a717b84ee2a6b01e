"""Colour pictures are changed as light and cameras do, with the same chances for the same seed."""

from __future__ import annotations

import colorsys

import numpy as np
import torch

from tests.support.flowers import PETALS, flower
from trainer.data.augment import augmented
from trainer.data.colour.colour_jitter import jittered
from trainer.images.arrays import from_planes, planes


def _flowers(count: int) -> torch.Tensor:
    names = list(PETALS)
    pictures = np.stack([np.asarray(flower(names[n % len(names)], n, 64)) for n in range(count)])
    return torch.from_numpy(np.ascontiguousarray(planes(pictures)))


def test_the_same_seed_gives_the_same_pictures_and_another_others() -> None:
    pictures = _flowers(8)
    one, again, other = (augmented(pictures, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))

    assert one.shape == (8, 3, 64, 64)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert 0 <= float(one.min()) <= float(one.max()) <= 255


def test_hue_hardly_changes() -> None:
    """It may be what a class means: a saturated colour keeps its own within a fortieth of the circle."""
    colours = torch.tensor([[0.8, 0.2, 0.2], [0.2, 0.7, 0.25], [0.25, 0.3, 0.8]])
    flat = colours.view(3, 3, 1, 1).expand(3, 3, 8, 8).repeat(40, 1, 1, 1)

    changed = jittered(flat.clone(), torch.Generator().manual_seed(3))[:, :, 0, 0]

    for before, after in zip(flat[:, :, 0, 0].tolist(), changed.tolist(), strict=True):
        away = abs(colorsys.rgb_to_hsv(*before)[0] - colorsys.rgb_to_hsv(*after)[0])
        assert min(away, 1 - away) < 1 / 40
    spread = from_planes((changed.view(-1, 3, 1, 1) * 255).to(torch.uint8).numpy())
    assert spread.std(axis=0).min() > 3  # and brightness does change
