"""Augmentation changes pictures, not their kind: shape, range and chance are kept in hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from trainer.data.augment import _grown, augment, augmented
from trainer.data.batch import Batch
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


# The middle pixel of every third of the heads changed with seed 3, and the mean over all, at version 1.0.
MIDDLES = [211, 159, 200, 139, 238, 167, 213, 229]
MEAN = 110.3


def _chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pictures_keep_shape_and_range(heads: torch.Tensor) -> None:
    changed = augmented(heads, _chance())

    assert changed.shape == heads.shape
    assert changed.dtype == torch.float32
    assert torch.isfinite(changed).all()
    assert changed.min() >= 0
    assert changed.max() <= 255


def test_the_pictures_given_are_not_changed(heads: torch.Tensor) -> None:
    before = heads.clone()

    augmented(heads, _chance())

    assert torch.equal(heads, before)


def test_the_same_seed_gives_the_same_pictures(heads: torch.Tensor) -> None:
    assert torch.equal(augmented(heads, _chance(7)), augmented(heads, _chance(7)))


def test_another_seed_gives_other_pictures(heads: torch.Tensor) -> None:
    assert not torch.equal(augmented(heads, _chance(7)), augmented(heads, _chance(8)))


def test_chance_comes_from_the_generator_alone(heads: torch.Tensor) -> None:
    torch.manual_seed(1)
    first = augmented(heads, _chance())
    torch.manual_seed(2)

    second = augmented(heads, _chance())

    assert torch.equal(first, second)


def test_every_picture_of_a_batch_is_changed_differently(heads: torch.Tensor) -> None:
    same = heads[:1].expand(8, -1, -1, -1).clone()

    changed = augmented(same, _chance())

    assert len({picture.numpy().tobytes() for picture in changed}) == 8


def test_a_seed_gives_the_pictures_that_it_gave_before_maps_moved_along() -> None:
    """Trials are compared over versions."""
    how = Preprocessing(image_size=64)
    heads = np.stack([preprocess(phantom(n, lesion=False, label=False), how) for n in range(24)])

    changed = augmented(torch.from_numpy(heads)[:, None], _chance(3))

    assert changed[::3, 0, 32, 32].tolist() == pytest.approx(MIDDLES, abs=1)
    assert float(changed.mean()) == pytest.approx(MEAN, abs=0.05)


def test_a_map_moves_with_its_picture() -> None:
    """A bright square is where its map says, however the picture was turned, and nowhere else."""
    pictures = torch.full((64, 1, 64, 64), 70, dtype=torch.uint8)
    pictures[..., 12:28, 36:52] = 255
    maps = functional.avg_pool2d((pictures == 255).float(), 4)
    batch = Batch(pictures, torch.ones(64, dtype=torch.long), maps, torch.ones(64, dtype=torch.bool))

    changed = augment(batch, _chance())

    cells = functional.avg_pool2d(changed.pictures, 4)
    for grey, share in zip(cells, changed.maps, strict=True):
        assert grey[share > 0.6].median() > 1.2 * grey[share < 0.02].median()
    assert changed.maps.amax() <= 1
    assert torch.equal(batch.maps, functional.avg_pool2d((pictures == 255).float(), 4))


def test_most_of_a_head_stays_in_the_picture(heads: torch.Tensor) -> None:
    """Shift and scale must not push what is judged out of sight."""
    kept = [float((augmented(heads, _chance(seed)) > 20).sum() / (heads > 20).sum()) for seed in range(8)]

    assert min(kept) > 0.6


def test_a_black_picture_stays_nearly_black() -> None:
    """Shading, gamma and contrast multiply; only noise, patches and specks may add."""
    changed = augmented(torch.zeros(16, 1, 64, 64, dtype=torch.uint8), _chance())

    assert float(changed.median()) < 20


def test_a_batch_of_one_works() -> None:
    assert augmented(torch.full((1, 1, 32, 32), 100, dtype=torch.uint8), _chance()).shape == (1, 1, 32, 32)


@pytest.mark.parametrize("by", [1, 4, 13])
def test_a_grown_mask_is_the_largest_value_of_each_square(by: int) -> None:
    mask = (torch.rand(2, 1, 30, 30, generator=_chance()) < 0.02).float()

    expected = functional.max_pool2d(mask, 2 * by + 1, 1, by)

    assert torch.equal(_grown(mask, by), expected)
