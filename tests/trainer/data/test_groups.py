"""Images that belong together, and splits that keep them together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from trainer.data.groups import MAX_GROUP, Pairs, group_ids, near_duplicates
from trainer.data.splits import folds, split
from trainer.images.phantom import phantom
from trainer.model.preprocess import preprocess
from trainer.model.spec import Preprocessing

HOW = Preprocessing(image_size=128)


def test_a_picture_saved_again_is_a_near_duplicate_and_another_head_is_not(tmp_path: Path) -> None:
    heads = [phantom(number, lesion=number % 2 == 0, label=False) for number in range(6)]
    heads[0].save(tmp_path / "again.jpg", quality=80)
    again = Image.open(tmp_path / "again.jpg").convert("L").resize((224, 224))
    pictures = np.stack([preprocess(one, HOW) for one in [*heads, again]])

    pairs = near_duplicates(pictures)

    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert (0, 6) in found
    assert not {pair for pair in found if pair in {(0, 1), (2, 3), (1, 4)}}


def test_a_mirrored_picture_saved_again_is_a_near_duplicate(tmp_path: Path) -> None:
    heads = [phantom(number, lesion=True, label=False).rotate(25 * number) for number in range(6)]
    ImageOps.mirror(heads[2]).save(tmp_path / "mirrored.jpg", quality=80)
    mirrored = Image.open(tmp_path / "mirrored.jpg").convert("L").resize((224, 224))

    pairs = near_duplicates(np.stack([preprocess(one, HOW) for one in [*heads, mirrored]]))

    found = dict(
        zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.mirrored, strict=True)
    )
    assert found[2, 6]
    assert [pair for pair in found if 6 in pair] == [(2, 6)]


def test_twins_that_are_symmetric_are_one_pair_and_not_a_mirrored_one() -> None:
    half = np.random.default_rng(0).integers(0, 255, (64, 32), dtype=np.uint8)
    symmetric = np.concatenate((half, half[:, ::-1]), axis=1)

    pairs = near_duplicates(np.stack((symmetric, symmetric)))

    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0], [1])
    assert (pairs.bits.tolist(), pairs.mirrored.tolist()) == ([0], [False])


def test_a_chain_that_is_too_long_keeps_its_closest_pairs() -> None:
    count = MAX_GROUP + 20
    first = np.arange(count - 1)
    bits = np.where(first % 2 == 0, 1, 13)

    groups = group_ids(
        [str(number) for number in range(count)],
        Pairs(first, first + 1, bits, np.zeros(count - 1, dtype=bool)),
    )

    assert np.array_equal(groups, np.arange(count) // 2)


def test_a_group_that_is_too_large_by_its_closest_pairs_is_no_group() -> None:
    count = MAX_GROUP + 20
    first = np.arange(count - 1)

    groups = group_ids(
        [str(number) for number in range(count)],
        Pairs(first, first + 1, np.zeros(count - 1, dtype=np.int64), np.zeros(count - 1, dtype=bool)),
    )

    assert len(np.unique(groups)) == count


def test_equal_bytes_and_equal_patients_share_a_group() -> None:
    groups = group_ids(["x", "y", "x", "z", "w"], None, ["", "p", "", "p", ""])

    assert groups[0] == groups[2]
    assert groups[1] == groups[3]
    assert len(np.unique(groups)) == 3


def test_no_group_stands_on_both_sides_and_every_image_is_validated_once() -> None:
    draw_from = np.random.default_rng(0)
    groups, labels = draw_from.integers(0, 80, 400), draw_from.integers(0, 2, 400)
    sources = groups % 3

    parts = folds(labels, groups, sources, 5, seed=1)

    for train, validation in parts:
        assert not set(groups[train]) & set(groups[validation])
    assert sorted(np.concatenate([validation for _, validation in parts])) == list(range(400))


def test_each_class_of_each_source_has_its_share_in_the_validation_set() -> None:
    labels, sources = np.tile([0, 0, 0, 1], 100), np.repeat([0, 1], 200)

    _, validation = split(labels, np.arange(400), sources, 0.2, seed=0)

    for source in (0, 1):
        for label, count in ((0, 150), (1, 50)):
            held = ((labels[validation] == label) & (sources[validation] == source)).sum()
            assert held == pytest.approx(0.2 * count, abs=2)


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    labels, groups, sources = np.tile([0, 1], 50), np.arange(100), np.zeros(100, dtype=int)

    one, again, other = (split(labels, groups, sources, 0.2, seed)[1].tolist() for seed in (3, 3, 4))

    assert one == again
    assert one != other
