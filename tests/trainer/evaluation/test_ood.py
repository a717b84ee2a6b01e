"""The distance limit: images of other kinds are far, images of the training's kind are near."""

from __future__ import annotations

import numpy as np

from trainer.data.ood_negatives import other_pictures
from trainer.evaluation.ood import fit_out_of_distribution
from trainer.images.phantom import phantom
from trainer.model.prediction import distances
from trainer.model.preprocess import preprocess
from trainer.model.spec import Preprocessing

HOW = Preprocessing(image_size=48)


def test_other_pictures_are_as_many_as_asked_all_different_and_the_same_for_a_seed() -> None:
    heads = np.stack([preprocess(phantom(n, lesion=False, label=False).convert("L"), HOW) for n in range(4)])

    first, again = (other_pictures(heads, HOW, 60, seed=3) for _ in range(2))
    another = other_pictures(heads, HOW, 60, seed=4)

    assert first.shape == (60, 48, 48)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (first != another).any(axis=(1, 2)).all()
    assert len({picture.tobytes() for picture in first}) == 60


def test_the_limit_lets_the_stated_share_pass_and_rejects_the_direction_of_others() -> None:
    chance = np.random.default_rng(0)
    labels = np.arange(400) % 2
    training = chance.normal(0, 1, (400, 40)).astype(np.float32)
    training[:, 0] += 3 * labels
    held_out = chance.normal(0, 1, (400, 40)).astype(np.float32)
    # Others leave by four spreads in one of forty directions: nearly lost in the sum of all of them.
    others = chance.normal(0, 1, (200, 40)).astype(np.float32)
    others[:, 7] += 4

    plain, plain_tensors = fit_out_of_distribution(training, labels, held_out, 0.97)
    taught, taught_tensors = fit_out_of_distribution(training, labels, held_out, 0.97, others[:100])

    def rejected(limit: float, tensors: dict[str, np.ndarray], rows: np.ndarray) -> float:
        return float((distances(rows, tensors) > limit).mean())

    assert abs(rejected(taught.max_distance, taught_tensors, held_out) - 0.03) < 0.01
    unseen = others[100:]
    assert rejected(plain.max_distance, plain_tensors, unseen) < 0.5
    assert rejected(taught.max_distance, taught_tensors, unseen) > 0.8
