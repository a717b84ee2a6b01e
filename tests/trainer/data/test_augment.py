"""Augmentation changes pictures, not their kind: shape, range and chance are kept in hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.data.augment import _grown, augment
from trainer.images.phantom import phantom
from trainer.model.preprocess import preprocess
from trainer.model.spec import Preprocessing


@pytest.fixture(scope="module")
def heads() -> torch.Tensor:
    """Drawn heads as network inputs, (16, 1, 64, 64) uint8."""
    how = Preprocessing(image_size=64)
    return torch.from_numpy(
        np.stack([preprocess(phantom(n, lesion=n % 2 == 0), how) for n in range(16)])[:, None]
    )


def _chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pictures_keep_shape_and_range(heads: torch.Tensor) -> None:
    changed = augment(heads, _chance())

    assert changed.shape == heads.shape
    assert changed.dtype == torch.float32
    assert torch.isfinite(changed).all()
    assert changed.min() >= 0
    assert changed.max() <= 255


def test_the_pictures_given_are_not_changed(heads: torch.Tensor) -> None:
    before = heads.clone()

    augment(heads, _chance())

    assert torch.equal(heads, before)


def test_the_same_seed_gives_the_same_pictures(heads: torch.Tensor) -> None:
    assert torch.equal(augment(heads, _chance(7)), augment(heads, _chance(7)))


def test_another_seed_gives_other_pictures(heads: torch.Tensor) -> None:
    assert not torch.equal(augment(heads, _chance(7)), augment(heads, _chance(8)))


def test_chance_comes_from_the_generator_alone(heads: torch.Tensor) -> None:
    torch.manual_seed(1)
    first = augment(heads, _chance())
    torch.manual_seed(2)

    second = augment(heads, _chance())

    assert torch.equal(first, second)


def test_every_picture_of_a_batch_is_changed_differently(heads: torch.Tensor) -> None:
    same = heads[:1].expand(8, -1, -1, -1).clone()

    changed = augment(same, _chance())

    assert len({picture.numpy().tobytes() for picture in changed}) == 8


def test_most_of_a_head_stays_in_the_picture(heads: torch.Tensor) -> None:
    """Shift and scale must not push what is judged out of sight."""
    kept = [float((augment(heads, _chance(seed)) > 20).sum() / (heads > 20).sum()) for seed in range(8)]

    assert min(kept) > 0.6


def test_a_black_picture_stays_nearly_black() -> None:
    """Shading, gamma and contrast multiply; only noise, patches and specks may add."""
    changed = augment(torch.zeros(16, 1, 64, 64, dtype=torch.uint8), _chance())

    assert float(changed.median()) < 20


def test_a_batch_of_one_works() -> None:
    assert augment(torch.full((1, 1, 32, 32), 100, dtype=torch.uint8), _chance()).shape == (1, 1, 32, 32)


@pytest.mark.parametrize("by", [1, 4, 13])
def test_a_grown_mask_is_the_largest_value_of_each_square(by: int) -> None:
    mask = (torch.rand(2, 1, 30, 30, generator=_chance()) < 0.02).float()

    expected = torch.nn.functional.max_pool2d(mask, 2 * by + 1, 1, by)

    assert torch.equal(_grown(mask, by), expected)
