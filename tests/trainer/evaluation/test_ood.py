"""The distance limit: images of other kinds are far, images of the training's kind are near."""

from __future__ import annotations

import numpy as np

from trainer.data.ood_negatives import other_pictures
from trainer.evaluation.ood import SliceFeatures, fit_out_of_distribution
from trainer.images.arrays import Floats
from trainer.images.phantom import phantom
from trainer.model.prediction import distances
from trainer.model.preprocess import preprocess
from trainer.model.spec import OutOfDistribution, Preprocessing
from trainer.model.weights import Tensors

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


def _drawn(chance: np.random.Generator, count: int, **moved: float) -> Floats:
    """Features (count, 40) of unit spread, some of them moved."""
    features = chance.normal(0, 1, (count, 40)).astype(np.float32)
    for place, by in moved.items():
        features[:, int(place.removeprefix("at"))] += by
    return features


def _known(*sources: Floats) -> SliceFeatures:
    """Features of several sources, with and without tumour in turn."""
    features = np.concatenate(sources)
    of = np.concatenate([np.full(len(some), number) for number, some in enumerate(sources)])
    return SliceFeatures(features, np.arange(len(features)) % 2, of)


def _rejected(fitted: tuple[OutOfDistribution, Tensors], features: Floats) -> float:
    limit, tensors = fitted
    return float((distances(features, tensors) > limit.max_distance).mean())


def test_the_limit_lets_the_stated_share_pass_and_rejects_the_direction_of_others() -> None:
    chance = np.random.default_rng(0)
    training, held_out = _known(_drawn(chance, 400)), _known(_drawn(chance, 400))
    # Others leave by four spreads in one of forty directions: nearly lost in the sum of all of them.
    others, unseen = _drawn(chance, 100, at7=4), _drawn(chance, 100, at7=4)

    plain = fit_out_of_distribution(training, held_out, 0.97)
    taught = fit_out_of_distribution(training, held_out, 0.97, [[others]])

    assert abs(_rejected(taught, held_out.features) - 0.03) < 0.01
    assert _rejected(plain, unseen) < 0.5
    assert _rejected(taught, unseen) > 0.8


def test_each_kind_is_rejected_however_few_examples_it_has_beside_another() -> None:
    chance = np.random.default_rng(1)
    training, held_out = _known(_drawn(chance, 400)), _known(_drawn(chance, 400))
    pages, few = _drawn(chance, 900, at7=12), _drawn(chance, 12, at20=-5)

    taught = fit_out_of_distribution(training, held_out, 0.97, [[pages], [few]])
    joined = fit_out_of_distribution(training, held_out, 0.97, [[np.concatenate((pages, few))]])

    assert _rejected(taught, _drawn(chance, 200, at20=-5)) > 0.8
    assert _rejected(joined, _drawn(chance, 200, at20=-5)) < 0.6
    assert _rejected(taught, _drawn(chance, 200, at7=12)) > 0.99


def test_a_kinds_arrays_count_alike() -> None:
    chance = np.random.default_rng(2)
    training, held_out = _known(_drawn(chance, 400)), _known(_drawn(chance, 400))
    made, real = _drawn(chance, 500, at3=4), _drawn(chance, 15, at3=2, at11=5)

    apart = fit_out_of_distribution(training, held_out, 0.97, [[made, real]])
    heaped = fit_out_of_distribution(training, held_out, 0.97, [[np.concatenate((made, real))]])

    unseen = _drawn(chance, 300, at3=2, at11=5)
    assert _rejected(apart, unseen) > max(0.8, _rejected(heaped, unseen) + 0.1)


def test_a_source_of_few_images_is_let_pass_as_one_of_many_is() -> None:
    chance = np.random.default_rng(3)
    many, few = _drawn(chance, 2000), _drawn(chance, 60, at5=-6)
    held_out = _known(_drawn(chance, 2000), _drawn(chance, 60, at5=-6))
    strangers = _drawn(chance, 300, at5=-14)

    fitted = fit_out_of_distribution(_known(many, few), held_out, 0.97, [[strangers]])
    heaped = fit_out_of_distribution(
        _known(np.concatenate((many, few))), _known(held_out.features), 0.97, [[strangers]]
    )

    like_few = _drawn(chance, 300, at5=-6)
    assert _rejected(fitted, like_few) < 0.12
    assert _rejected(heaped, like_few) > 0.5
    assert _rejected(fitted, _drawn(chance, 300)) < 0.12
    assert _rejected(fitted, _drawn(chance, 300, at5=-14)) > 0.9


def test_a_source_of_a_handful_of_images_does_not_decide_the_limit() -> None:
    chance = np.random.default_rng(4)
    training = _known(_drawn(chance, 400))
    odd = _drawn(chance, 3, at9=30)
    held_out = SliceFeatures(
        np.concatenate((_drawn(chance, 400), odd)), np.arange(403) % 2, np.array([0] * 400 + [1] * 3)
    )

    fitted = fit_out_of_distribution(training, held_out, 0.9)

    assert 0.02 < _rejected(fitted, _drawn(chance, 400)) < 0.1
