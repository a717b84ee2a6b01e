"""Fit the out-of-distribution threshold (Mahalanobis distance) of a trained network.

Images from scanners that training never saw must pass, so training and held-out pictures count as they
are and changed as in training (other tones, no skull, coarser), each source as much as any other, and heads
of any contrast with them if there are some. Photographs and pages must not, so drawn pictures of other
kinds show the way out; nor computed tomograms, which are close to slices in every direction but one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.covariance import shrunk_covariance
from torch import nn

from trainer.data.augment import augmented
from trainer.data.ood_negatives import other_pictures
from trainer.data.training_set import TrainingSet
from trainer.images.arrays import Doubles, Floats, Grey, Ints, from_planes, planes
from trainer.model.prediction import distances
from trainer.model.spec import OutOfDistribution, Preprocessing
from trainer.model.weights import Tensors
from trainer.networks.inference import predict

# The share of held-out training-like images that the limit lets pass, sources alike. The last per cents are
# images hardly anybody would call a head slice: letting 99 % pass lets one photograph in fifteen pass too.
ACCEPTANCE = 0.975
OTHERS = 900  # drawn pictures of other kinds that the limit is fitted against
_MOST = 3000  # training pictures: a covariance of some hundred numbers is known well from these
_CHUNK = 256
# A source counts as much as any other from so many images on; with fewer, as many as it has.
_ENOUGH = 50


@dataclass(frozen=True, slots=True)
class LimitExamples:
    """Pictures beside the training's that the limit is fitted with; arrays of any length, (k, S, S) uint8."""

    heads: tuple[Grey, ...] = ()  # of any contrast, without a tumour: to pass
    strangers: tuple[Grey, ...] = ()  # close to slices, but none, such as tomograms: to be rejected


@dataclass(frozen=True, slots=True)
class SliceFeatures:
    """Features (n, d) of what is to pass, with labels (n,) and sources (n,)."""

    features: Floats
    labels: Ints
    sources: Ints

    def weights(self) -> Doubles:
        """Return how much each image (n,) counts, 1 together: sources alike."""
        _, place, count = np.unique(self.sources, return_inverse=True, return_counts=True)
        each = 1.0 / np.maximum(count, _ENOUGH)[place]
        return np.asarray(each / each.sum(), dtype=np.float64)


def fit_limit(
    network: nn.Module,
    data: TrainingSet,
    device: torch.device,
    preprocessing: Preprocessing,
    seed: int,
    examples: LimitExamples = LimitExamples(),
) -> tuple[OutOfDistribution, Tensors]:
    """Return a trained network's distance limit and its tensors; the same for the same seed."""
    rng = np.random.default_rng((seed, 11))
    train = np.sort(_of_all_sources(rng.permutation(data.train), data.sources, _MOST))
    generator = torch.Generator().manual_seed(seed)
    changed, held_changed = train[::3], data.validation[::2]
    seen = _seen(network, data, train, changed, generator, device)
    held_out = _seen(network, data, data.validation, held_changed, generator, device)
    drawn = other_pictures(data.pictures[train], preprocessing, OTHERS, seed)
    heads = [predict(network, some, device)[1] for some in examples.heads if len(some)]
    return fit_out_of_distribution(
        _with_heads(seen, data, np.concatenate((train, changed)), [some[::2] for some in heads]),
        _with_heads(
            held_out, data, np.concatenate((data.validation, held_changed)), [s[1::2] for s in heads]
        ),
        ACCEPTANCE,
        (
            [predict(network, drawn, device)[1]],
            [predict(network, some, device)[1] for some in examples.strangers if len(some)],
        ),
    )


def _of_all_sources(indices: Ints, sources: Ints, most: int) -> Ints:
    """Return up to `most` of the indices (n,): of each source as many as of any other, while it has some."""
    turn = np.empty(len(indices), dtype=np.int64)
    for source in np.unique(sources[indices]):
        own = sources[indices] == source
        turn[own] = np.arange(int(own.sum()))
    return indices[np.argsort(turn, kind="stable")[:most]]


def _with_heads(
    features: tuple[Floats, Floats], data: TrainingSet, indices: Ints, heads: Sequence[Floats]
) -> SliceFeatures:
    """Return features of the images with these indices, and of heads without tumour, a source each array."""
    first = int(data.sources.max()) + 1
    labels = [data.labels[indices], *(np.full(len(some), data.negative) for some in heads)]
    sources = [data.sources[indices], *(np.full(len(some), first + at) for at, some in enumerate(heads))]
    return SliceFeatures(np.concatenate((*features, *heads)), np.concatenate(labels), np.concatenate(sources))


def _seen(
    network: nn.Module,
    data: TrainingSet,
    plain: Ints,
    changed: Ints,
    generator: torch.Generator,
    device: torch.device,
) -> tuple[Floats, Floats]:
    """Return the features of pictures as they are, and of others changed as in training."""
    altered = [
        augmented(torch.from_numpy(planes(data.pictures[changed[start : start + _CHUNK]])), generator)
        for start in range(0, len(changed), _CHUNK)
    ]
    bytes_again = from_planes(torch.cat(altered).round().to(torch.uint8).numpy())
    return predict(network, data.pictures[plain], device)[1], predict(network, bytes_again, device)[1]


_RANK = 64
_SHRINKAGE = 0.1  # towards a multiple of the identity
_OTHERS_WEIGHT = 1.0


def fit_out_of_distribution(
    train: SliceFeatures, held_out: SliceFeatures, acceptance: float, kinds: Sequence[Sequence[Floats]] = ()
) -> tuple[OutOfDistribution, Tensors]:
    """Return the distance limit that lets `acceptance` of `held_out` pass, and its tensors.

    Class means and one shared covariance of the training features, sources alike, shrunk by a constant tenth
    towards a multiple of the identity of the same trace (scikit-learn's `shrunk_covariance`), and whitened
    in at most 64 directions. For each of `kinds` of pictures to be rejected, of which there are features
    (k, d) in one or more arrays that count alike, the direction that tells it from the training images best
    (Fisher 1936) counts more than all the rest: distance alone does not know which deviations matter. Kinds
    have a direction each: what tells a page from a head says nothing of a tomogram.
    """
    weights = train.weights()
    classes = np.unique(train.labels)
    means = np.stack([_mean(train.features[own], weights[own]) for own in train.labels == classes[:, None]])
    centred = train.features - means[np.searchsorted(classes, train.labels)]
    covariance = shrunk_covariance(_covariance(centred, weights), shrinkage=_SHRINKAGE)
    values, vectors = np.linalg.eigh(covariance)
    rank = min(_RANK, len(values))
    directions = [_direction(train.features, weights, kind) for kind in kinds if kind]
    whitening = np.column_stack((vectors[:, -rank:] / np.sqrt(values[-rank:]), *directions))
    # Rounded before the limit is taken: half the bytes in the weights file, nothing changes later.
    tensors: Tensors = {
        name: value.astype(np.float16).astype(np.float32)
        for name, value in (("ood.means", means), ("ood.whitening", whitening))
    }
    limit = _quantile(distances(held_out.features, tensors), held_out.weights(), acceptance)
    return OutOfDistribution(max_distance=limit, acceptance=acceptance), tensors


def _direction(features: Floats, weights: Doubles, kind: Sequence[Floats]) -> Doubles:
    """Return Fisher's direction (d,) between training images and a kind of others, scaled as it should weigh.

    The training images' whole spread counts against it, between sources and classes too: a direction along
    which a source that is left out would be a stranger is a bad one. Along it they spread by
    `_OTHERS_WEIGHT` times the square root of the rank, so that a step of their own spread counts as much as
    leaving in every other direction together.
    """
    others = np.concatenate(kind)
    alike = np.concatenate([np.full(len(some), 1 / len(some) / len(kind)) for some in kind])
    spread = _covariance(features, weights)
    steady = 1e-3 * np.trace(spread) / len(spread) * np.eye(len(spread))
    between = _mean(features, weights) - _mean(others, alike)
    direction = np.linalg.solve(spread + _covariance(others, alike) + steady, between)
    along = math.sqrt(float(direction @ spread @ direction))
    return np.asarray(direction * (_OTHERS_WEIGHT * math.sqrt(_RANK) / max(along, 1e-9)))


def _mean(features: Floats, weights: Doubles) -> Doubles:
    return np.asarray(np.average(features, axis=0, weights=weights), dtype=np.float64)


def _covariance(features: Floats | Doubles, weights: Doubles) -> Doubles:
    """Return the covariance (d, d) of weighted features (n, d)."""
    apart = features - np.average(features, axis=0, weights=weights)
    return np.asarray((apart * (weights / weights.sum())[:, None]).T @ apart, dtype=np.float64)


def _quantile(values: Floats, weights: Doubles, share: float) -> float:
    """Return the smallest of the values (n,) up to which `share` of the weight lies."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(reached, share * reached[-1])), len(values) - 1)])
