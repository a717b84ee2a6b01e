"""A drawn lesion changes a tumour-free picture's answer, and nothing outside its head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from trainer.data.batch import Batch
from trainer.data.lesions.synthetic_lesions import draw_lesions
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


def _healthy(heads: torch.Tensor, labels: torch.Tensor | None = None) -> Batch:
    """A batch whose maps are known where it is negative (default: everywhere)."""
    labels = torch.zeros(len(heads), dtype=torch.long) if labels is None else labels
    side = heads.shape[-1] // 4
    return Batch(heads, labels, torch.zeros(len(heads), 1, side, side), labels == NO)


def test_a_picture_with_a_drawn_lesion_counts_as_a_tumour(heads: torch.Tensor) -> None:
    drawn = draw_lesions(_healthy(heads), 0.5, NO, YES, _chance())

    changed = (drawn.pictures != heads).flatten(1).any(dim=1)
    assert 4 < int(changed.sum()) < 20
    assert torch.equal(drawn.labels == YES, changed)
    assert torch.equal(drawn.maps.flatten(1).amax(1) > 0, changed)
    assert drawn.pictures.dtype == torch.uint8


def test_the_map_tells_where_the_lesion_is(heads: torch.Tensor) -> None:
    """Most of what has changed lies in the map, and inside the map most has changed."""
    drawn = draw_lesions(_healthy(heads), 1.0, NO, YES, _chance())

    difference = (drawn.pictures.float() - heads.float()).abs()
    cells = functional.avg_pool2d(difference, 4)
    inside = (cells * drawn.maps).sum() / drawn.maps.sum()
    outside = (cells * (1 - drawn.maps)).sum() / (1 - drawn.maps).sum()
    assert float(inside) > 8 * float(outside)
    assert bool(drawn.known.all())


def test_real_tumours_are_left_as_they_are(heads: torch.Tensor) -> None:
    labels = torch.arange(len(heads)) % 2

    drawn = draw_lesions(_healthy(heads, labels), 1.0, NO, YES, _chance())

    assert torch.equal(drawn.pictures[labels == YES], heads[labels == YES])
    assert bool((drawn.labels == YES).all())
    assert torch.equal(drawn.known, labels == NO)


def test_the_pictures_given_are_not_changed(heads: torch.Tensor) -> None:
    before, batch = heads.clone(), _healthy(heads)

    draw_lesions(batch, 1.0, NO, YES, _chance())

    assert torch.equal(heads, before)
    assert not batch.labels.any()
    assert not batch.maps.any()


def test_a_lesion_can_be_seen_and_the_air_stays_dark(heads: torch.Tensor) -> None:
    pictures = draw_lesions(_healthy(heads), 1.0, NO, YES, _chance()).pictures

    difference = (pictures.float() - heads.float()).abs()
    assert float(difference.flatten(1).amax(dim=1).median()) > 30
    corners = pictures[..., :4, :4]
    assert int(corners.max()) <= int(heads[..., :4, :4].max()) + 1


def test_the_same_seed_draws_the_same_lesions(heads: torch.Tensor) -> None:
    first = draw_lesions(_healthy(heads), 1.0, NO, YES, _chance(7))
    torch.manual_seed(1)

    again = draw_lesions(_healthy(heads), 1.0, NO, YES, _chance(7))
    other = draw_lesions(_healthy(heads), 1.0, NO, YES, _chance(8))

    assert torch.equal(first.pictures, again.pictures)
    assert not torch.equal(first.pictures, other.pictures)


def test_pictures_without_a_head_are_survived() -> None:
    black = torch.zeros(3, 1, 32, 32, dtype=torch.uint8)

    drawn = draw_lesions(_healthy(black), 1.0, NO, YES, _chance())

    assert drawn.pictures.shape == black.shape
    assert bool((drawn.labels == YES).all())
