"""A tumour on one side of a symmetric head is filled with the other side; all others stay."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from tests.support.lesion_batches import NO, YES, chance, heads_with_tumours, healthy_heads
from trainer.data.lesions.healed_lesions import heal

ILL, WELL = heads_with_tumours(16, 96), healthy_heads(16, 96)


def test_a_healed_head_looks_like_the_one_without_a_tumour_and_counts_as_such() -> None:
    healed = heal(ILL, 1.0, NO, YES, chance())

    assert bool((healed.labels == NO).all())
    assert not healed.maps.any()
    assert bool(healed.known.all())
    lesion = (functional.interpolate(ILL.maps, scale_factor=4) > 0.5).float()
    before = ((ILL.pictures.float() - WELL.pictures.float()).abs() * lesion).sum() / lesion.sum()
    after = ((healed.pictures.float() - WELL.pictures.float()).abs() * lesion).sum() / lesion.sum()
    assert float(after) < 0.25 * float(before)


def test_far_from_the_tumour_nothing_changes() -> None:
    healed = heal(ILL, 1.0, NO, YES, chance())

    assert torch.equal(healed.pictures[..., 60:], ILL.pictures[..., 60:])


def test_a_tumour_that_crosses_the_middle_stays() -> None:
    middle = heads_with_tumours(8, 96, place=0.5)

    assert heal(middle, 1.0, NO, YES, chance()) is middle


def test_a_tumour_whose_place_is_unknown_stays() -> None:
    unknown = replace(ILL, known=torch.zeros_like(ILL.known))

    assert heal(unknown, 1.0, NO, YES, chance()) is unknown


def test_a_head_that_is_not_symmetric_stays() -> None:
    """As a sagittal slice is not."""
    pictures = ILL.pictures.clone()
    pictures[..., 52:] = pictures[..., 52:] // 8

    assert heal(replace(ILL, pictures=pictures), 1.0, NO, YES, chance()).labels.all()


def test_so_many_are_healed_as_the_share_says_and_no_negative_changes() -> None:
    healed = heal(ILL, 0.5, NO, YES, chance())

    assert 3 < int((healed.labels == NO).sum()) < 13
    assert torch.equal(heal(WELL, 1.0, NO, YES, chance()).pictures, WELL.pictures)


def test_a_turned_head_is_healed_along_its_own_axis() -> None:
    turned = _turned(ILL.pictures.float(), 12).round().to(torch.uint8)
    batch = replace(ILL, pictures=turned, maps=_turned(ILL.maps, 12))

    healed = heal(batch, 1.0, NO, YES, chance())

    assert float((healed.labels == NO).float().mean()) > 0.7
    lesion = (functional.interpolate(batch.maps, scale_factor=4) > 0.5).float()
    well = _turned(WELL.pictures.float(), 12)
    before = ((turned.float() - well).abs() * lesion).sum((1, 2, 3))
    after = ((healed.pictures.float() - well).abs() * lesion).sum((1, 2, 3))
    assert float((after / before)[healed.labels == NO].mean()) < 0.35


def _turned(pictures: torch.Tensor, degrees: float) -> torch.Tensor:
    angle = torch.tensor(degrees).deg2rad()
    rows = torch.stack((torch.stack((angle.cos(), -angle.sin())), torch.stack((angle.sin(), angle.cos()))))
    rows = torch.cat((rows, torch.zeros(2, 1)), 1).expand(len(pictures), 2, 3)
    grid = functional.affine_grid(rows, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, align_corners=False)
