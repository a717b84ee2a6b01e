"""Fit the out-of-distribution threshold (Mahalanobis distance) of a trained network.

Images from scanners that training never saw must pass, so training and held-out pictures count as they
are and changed as in training (other tones, no skull, coarser); photographs and pages must not, so
drawn pictures of other kinds show the way out.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.covariance import shrunk_covariance
from torch import nn

from trainer.data.augment import augmented
from trainer.data.ood_negatives import other_pictures
from trainer.data.training_set import TrainingSet
from trainer.images.arrays import Doubles, Floats, Grey, Ints
from trainer.model.prediction import distances
from trainer.model.spec import OutOfDistribution, Preprocessing
from trainer.model.weights import Tensors
from trainer.networks.inference import predict

# The share of held-out training-like images that the limit lets pass. The last per cents are images
# hardly anybody would call a head slice: letting 99 % pass lets half of all photographs pass too.
ACCEPTANCE = 0.97
OTHERS = 900  # drawn pictures of other kinds that the limit is fitted against
_MOST = 3000  # training pictures: a covariance of some hundred numbers is known well from these
_CHUNK = 256


def fit_limit(
    network: nn.Module, data: TrainingSet, device: torch.device, preprocessing: Preprocessing, seed: int
) -> tuple[OutOfDistribution, Tensors]:
    """Return a trained network's distance limit and its tensors; the same for the same seed."""
    rng = np.random.default_rng((seed, 11))
    train = np.sort(rng.permutation(data.train)[:_MOST])
    generator = torch.Generator().manual_seed(seed)
    plain, changed = _seen(network, data, train, train[::3], generator, device)
    held_out = _seen(network, data, data.validation, data.validation[::2], generator, device)
    drawn = other_pictures(data.pictures[train], preprocessing, OTHERS, seed)
    return fit_out_of_distribution(
        np.concatenate((plain, changed)),
        np.concatenate((data.labels[train], data.labels[train[::3]])),
        np.concatenate(held_out),
        ACCEPTANCE,
        predict(network, drawn, device)[1],
    )


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
        augmented(torch.from_numpy(data.pictures[changed[start : start + _CHUNK]])[:, None], generator)
        for start in range(0, len(changed), _CHUNK)
    ]
    bytes_again: Grey = torch.cat(altered)[:, 0].round().to(torch.uint8).numpy()
    return predict(network, data.pictures[plain], device)[1], predict(network, bytes_again, device)[1]


_RANK = 64
_SHRINKAGE = 0.1  # towards a multiple of the identity
_OTHERS_WEIGHT = 1.0


def fit_out_of_distribution(
    features: Floats, labels: Ints, held_out: Floats, acceptance: float, others: Floats | None = None
) -> tuple[OutOfDistribution, Tensors]:
    """Return the distance limit that lets `acceptance` of held-out features (m, d) pass, and its tensors.

    Class means and one shared covariance of the training features (n, d), shrunk by a constant tenth
    towards a multiple of the identity of the same trace (scikit-learn's `shrunk_covariance`), and whitened
    in at most 64 directions. With `others` (k, d), features
    of pictures of other kinds, the direction that tells them from the training images best (Fisher
    1936) counts more than all the rest: distance alone does not know which deviations matter.
    """
    means = np.stack([features[labels == label].mean(axis=0) for label in np.unique(labels)])
    centred = features - means[np.searchsorted(np.unique(labels), labels)]
    covariance = np.cov(centred, rowvar=False).astype(np.float64)
    covariance = shrunk_covariance(covariance, shrinkage=_SHRINKAGE)
    values, vectors = np.linalg.eigh(covariance)
    rank = min(_RANK, len(values))
    whitening = (vectors[:, -rank:] / np.sqrt(values[-rank:])).astype(np.float32)
    if others is not None and len(others):
        direction = _direction(features, others, covariance)
        whitening = np.concatenate((whitening, direction[:, None]), axis=1)
    # Rounded before the limit is taken: half the bytes in the weights file, nothing changes later.
    tensors: Tensors = {
        name: value.astype(np.float16).astype(np.float32)
        for name, value in (("ood.means", means), ("ood.whitening", whitening))
    }
    limit = float(np.quantile(distances(held_out, tensors), acceptance))
    return OutOfDistribution(max_distance=limit, acceptance=acceptance), tensors


def _direction(features: Floats, others: Floats, covariance: Doubles) -> Floats:
    """Return Fisher's direction (d,) between training images and others, scaled to weigh as it should.

    Along it the training images spread by `_OTHERS_WEIGHT` times the square root of the rank, so that a
    step of their own spread counts as much as leaving in every other direction together.
    """
    between = features.mean(axis=0) - others.mean(axis=0)
    steady = 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    direction = np.linalg.solve(covariance + np.cov(others, rowvar=False) + steady, between)
    spread = float((features @ direction).std())
    scaled: Floats = (direction * (_OTHERS_WEIGHT * math.sqrt(_RANK) / max(spread, 1e-9))).astype(np.float32)
    return scaled
