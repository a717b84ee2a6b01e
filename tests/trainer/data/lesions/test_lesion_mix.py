"""Shares of a batch are drawn, pasted, healed; without annotations lesions are drawn only."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.support.lesion_batches import NO, YES, chance, heads_with_tumours, healthy_heads, joined
from trainer.data.lesions.lesion_mix import Lesions, mix_lesions
from trainer.data.lesions.synthetic_lesions import draw_lesions

WELL, ILL = healthy_heads(32, 96), heads_with_tumours(32, 96)
BATCH = joined(WELL, ILL)


def test_shares_of_lesions_add_up_to_the_total() -> None:
    shares = Lesions.of(0.5, pasted=0.4, healed=0.3, seams=0.1)

    assert (shares.drawn, shares.pasted) == pytest.approx((0.3, 0.2))
    assert (shares.healed, shares.seams) == (0.3, 0.1)


def test_the_total_share_of_the_negatives_gets_a_lesion() -> None:
    shares = Lesions.of(0.5, pasted=0.4, healed=0.0, seams=0.2)
    positives = [
        float((mix_lesions(BATCH, shares, NO, YES, chance(seed)).labels[:32] == YES).float().mean())
        for seed in range(12)
    ]

    assert sum(positives) / 12 == pytest.approx(0.5, abs=0.1)


def test_some_tumours_are_healed_and_none_is_changed_otherwise() -> None:
    mixed = mix_lesions(BATCH, Lesions(healed=0.5), NO, YES, chance())

    healed = mixed.labels[32:] == NO
    assert 6 < int(healed.sum()) < 26
    assert torch.equal(mixed.pictures[32:][~healed], ILL.pictures[~healed])
    assert torch.equal(mixed.pictures[:32], WELL.pictures)


def test_every_map_fits_its_label() -> None:
    mixed = mix_lesions(BATCH, Lesions(0.3, 0.3, 0.3, 0.3), NO, YES, chance())

    assert torch.equal(mixed.maps.amax((1, 2, 3)) > 0, mixed.labels == YES)
    assert bool(mixed.known.all())


def test_without_known_lesions_as_many_are_drawn() -> None:
    unknown = replace(BATCH, known=BATCH.labels == NO, maps=torch.zeros_like(BATCH.maps))

    mixed = mix_lesions(unknown, Lesions(0.3, 0.2, 0.5, 0.5), NO, YES, chance())

    drawn = draw_lesions(unknown, 0.5, NO, YES, chance())
    assert torch.equal(mixed.pictures, drawn.pictures)
    assert torch.equal(mixed.labels, drawn.labels)
