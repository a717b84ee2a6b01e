"""A drawn lesion changes a tumour-free picture's answer, and nothing outside its head."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.data.synthetic_lesions import draw_lesions
from trainer.images.phantom import phantom
from trainer.model.preprocess import preprocess
from trainer.model.spec import Preprocessing

NO, YES = 0, 1


@pytest.fixture(scope="module")
def heads() -> torch.Tensor:
    """Drawn heads without a lesion as network inputs, (24, 1, 64, 64) uint8."""
    how = Preprocessing(image_size=64)
    return torch.from_numpy(
        np.stack([preprocess(phantom(n, lesion=False, label=False), how) for n in range(24)])[:, None]
    )


def _chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_picture_with_a_drawn_lesion_counts_as_a_tumour(heads: torch.Tensor) -> None:
    labels = torch.zeros(len(heads), dtype=torch.long)

    pictures, told = draw_lesions(heads, labels, 0.5, NO, YES, _chance())

    changed = (pictures != heads).flatten(1).any(dim=1)
    assert 4 < int(changed.sum()) < 20
    assert torch.equal(told == YES, changed)
    assert pictures.dtype == torch.uint8


def test_real_tumours_are_left_as_they_are(heads: torch.Tensor) -> None:
    labels = torch.arange(len(heads)) % 2

    pictures, told = draw_lesions(heads, labels, 1.0, NO, YES, _chance())

    assert torch.equal(pictures[labels == YES], heads[labels == YES])
    assert bool((told == YES).all())


def test_the_pictures_given_are_not_changed(heads: torch.Tensor) -> None:
    before, labels = heads.clone(), torch.zeros(len(heads), dtype=torch.long)

    draw_lesions(heads, labels, 1.0, NO, YES, _chance())

    assert torch.equal(heads, before)
    assert not labels.any()


def test_a_lesion_can_be_seen_and_the_air_stays_dark(heads: torch.Tensor) -> None:
    labels = torch.zeros(len(heads), dtype=torch.long)

    pictures, _ = draw_lesions(heads, labels, 1.0, NO, YES, _chance())

    difference = (pictures.float() - heads.float()).abs()
    assert float(difference.flatten(1).amax(dim=1).median()) > 30
    corners = pictures[..., :4, :4]
    assert int(corners.max()) <= int(heads[..., :4, :4].max()) + 1


def test_the_same_seed_draws_the_same_lesions(heads: torch.Tensor) -> None:
    labels = torch.zeros(len(heads), dtype=torch.long)
    first, _ = draw_lesions(heads, labels, 1.0, NO, YES, _chance(7))
    torch.manual_seed(1)

    again, _ = draw_lesions(heads, labels, 1.0, NO, YES, _chance(7))
    other, _ = draw_lesions(heads, labels, 1.0, NO, YES, _chance(8))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_pictures_without_a_head_are_survived() -> None:
    black = torch.zeros(3, 1, 32, 32, dtype=torch.uint8)

    pictures, told = draw_lesions(black, torch.zeros(3, dtype=torch.long), 1.0, NO, YES, _chance())

    assert pictures.shape == black.shape
    assert bool((told == YES).all())
