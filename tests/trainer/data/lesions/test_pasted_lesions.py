"""A pasted lesion is where its map says, and a seam changes a picture but not its answer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from tests.support.lesion_batches import NO, YES, chance, heads_with_tumours, healthy_heads, joined
from trainer.data.lesions.pasted_lesions import add_seams, paste_lesions

HOSTS, DONORS = healthy_heads(24), heads_with_tumours(8)


def test_a_host_with_a_pasted_lesion_counts_as_a_tumour() -> None:
    pasted = paste_lesions(HOSTS, DONORS, 0.5, NO, YES, chance())

    changed = (pasted.pictures != HOSTS.pictures).flatten(1).any(1)
    assert 4 < int(changed.sum()) < 20
    assert torch.equal(pasted.labels == YES, changed)
    assert torch.equal(pasted.maps.amax((1, 2, 3)) > 0, changed)
    assert bool(pasted.known.all())
    assert pasted.pictures.dtype == torch.uint8
    assert float(pasted.maps.max()) <= 1


def test_most_of_what_a_pasted_lesion_changes_lies_in_its_map() -> None:
    pasted = paste_lesions(HOSTS, DONORS, 1.0, NO, YES, chance())

    cells = functional.avg_pool2d((pasted.pictures.float() - HOSTS.pictures.float()).abs(), 4)
    inside = (cells * pasted.maps).sum() / pasted.maps.sum()
    outside = (cells * (1 - pasted.maps)).sum() / (1 - pasted.maps).sum()
    assert float(inside) > 8 * float(outside)


def test_a_white_tumour_is_mostly_brighter_than_a_dark_host() -> None:
    """Its tones are mapped, and only now and then turned to the other side."""
    dark = replace(HOSTS, pictures=HOSTS.pictures // 2)

    pasted = paste_lesions(dark, DONORS, 1.0, NO, YES, chance())

    cells = functional.avg_pool2d(pasted.pictures.float() - dark.pictures.float(), 4)
    brighter = (cells * pasted.maps).sum((1, 2, 3)) > 0
    assert 0.7 < float(brighter.float().mean()) < 1


def test_a_pasted_lesion_can_be_seen() -> None:
    """Also where the donor's is as bright as the host's tissue."""
    pale = replace(DONORS, pictures=HOSTS.pictures[:8])

    pasted = paste_lesions(HOSTS, pale, 1.0, NO, YES, chance())

    cells = functional.avg_pool2d((pasted.pictures.float() - HOSTS.pictures.float()).abs(), 4)
    assert float(((cells * pasted.maps).sum((1, 2, 3)) / pasted.maps.sum((1, 2, 3))).min()) > 15


def test_air_and_positives_stay_as_they_are() -> None:
    batch = joined(HOSTS, DONORS)

    pasted = paste_lesions(batch, DONORS, 1.0, NO, YES, chance())

    assert torch.equal(pasted.pictures[len(HOSTS.labels) :], DONORS.pictures)
    corners = pasted.pictures[: len(HOSTS.labels), :, :4, :4]
    assert torch.equal(corners, HOSTS.pictures[..., :4, :4])


def test_nothing_is_pasted_without_donors_or_into_no_head() -> None:
    none = replace(DONORS, pictures=DONORS.pictures[:0], labels=DONORS.labels[:0])
    black = replace(HOSTS, pictures=torch.zeros_like(HOSTS.pictures))

    assert paste_lesions(HOSTS, none, 1.0, NO, YES, chance()) is HOSTS
    without_head = paste_lesions(black, DONORS, 1.0, NO, YES, chance())
    assert not without_head.labels.any()
    assert not without_head.pictures.any()


def test_the_same_seed_pastes_and_sews_the_same_and_leaves_what_is_given() -> None:
    before = HOSTS.pictures.clone()
    first = add_seams(paste_lesions(HOSTS, DONORS, 0.5, NO, YES, chance(7)), 0.5, NO, chance(7))
    torch.manual_seed(1)

    again = add_seams(paste_lesions(HOSTS, DONORS, 0.5, NO, YES, chance(7)), 0.5, NO, chance(7))
    other = add_seams(paste_lesions(HOSTS, DONORS, 0.5, NO, YES, chance(8)), 0.5, NO, chance(8))

    assert torch.equal(first.pictures, again.pictures)
    assert not torch.equal(first.pictures, other.pictures)
    assert torch.equal(HOSTS.pictures, before)


def test_a_seam_changes_the_picture_but_neither_label_nor_map_nor_lesion() -> None:
    batch = joined(HOSTS, DONORS)

    sewn = add_seams(batch, 1.0, NO, chance())

    assert float((sewn.pictures != batch.pictures).flatten(1).any(1).float().mean()) > 0.8
    assert torch.equal(sewn.labels, batch.labels)
    assert torch.equal(sewn.maps, batch.maps)
    lesion = functional.interpolate(batch.maps, scale_factor=4) > 0.9
    assert torch.equal(sewn.pictures[lesion], batch.pictures[lesion])


def test_a_seam_hides_where_a_lesion_shows() -> None:
    """Healthy tissue has its host's tones: a pasted lesion changes the picture several times as much."""
    sewn = add_seams(HOSTS, 1.0, NO, chance()).pictures.float() - HOSTS.pictures.float()
    pasted = paste_lesions(HOSTS, DONORS, 1.0, NO, YES, chance()).pictures.float() - HOSTS.pictures.float()

    assert float(pasted.abs().mean()) > 3 * float(sewn.abs().mean())


def test_pictures_without_a_known_map_get_no_seam() -> None:
    unknown = replace(HOSTS, known=torch.zeros_like(HOSTS.known))

    assert torch.equal(add_seams(unknown, 1.0, NO, chance()).pictures, HOSTS.pictures)
