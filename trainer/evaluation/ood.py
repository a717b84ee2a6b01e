"""Where the images that a model was made for end: its distance limit, fitted on what they may look like.

Images from scanners that training never saw must pass, so training and held-out pictures count as they
are and changed as in training (other tones, no skull, coarser); photographs and pages must not, so
drawn pictures of other kinds show the way out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from trainer.data.augment import augment
from trainer.data.ood_negatives import other_pictures
from trainer.evaluation.calibration import fit_out_of_distribution
from trainer.model.spec import OutOfDistribution, Preprocessing
from trainer.model.weights import Tensors
from trainer.training.loop import Pictures, predict

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Grey = npt.NDArray[np.uint8]

# The share of held-out training-like images that the limit lets pass. The last per cents are images
# hardly anybody would call a head slice: letting 99 % pass lets half of all photographs pass too.
ACCEPTANCE = 0.97
OTHERS = 900  # drawn pictures of other kinds that the limit is fitted against
_MOST = 3000  # training pictures: a covariance of some hundred numbers is known well from these
_CHUNK = 256


def fit_limit(
    network: nn.Module, data: Pictures, device: torch.device, how: Preprocessing, seed: int
) -> tuple[OutOfDistribution, Tensors]:
    """Return a trained network's distance limit and its tensors; the same for the same seed."""
    order = np.random.default_rng((seed, 11))
    train = np.sort(order.permutation(data.train)[:_MOST])
    chance = torch.Generator().manual_seed(seed)
    plain, changed = _seen(network, data, train, train[::3], chance, device)
    held_out = _seen(network, data, data.validation, data.validation[::2], chance, device)
    drawn = other_pictures(data.pictures[train], how, OTHERS, seed)
    return fit_out_of_distribution(
        np.concatenate((plain, changed)),
        np.concatenate((data.labels[train], data.labels[train[::3]])),
        np.concatenate(held_out),
        ACCEPTANCE,
        predict(network, drawn, device)[1],
    )


def _seen(
    network: nn.Module,
    data: Pictures,
    plain: Ints,
    changed: Ints,
    chance: torch.Generator,
    device: torch.device,
) -> tuple[Floats, Floats]:
    """Return the features of pictures as they are, and of others changed as in training."""
    altered = [
        augment(torch.from_numpy(data.pictures[changed[start : start + _CHUNK]])[:, None], chance)
        for start in range(0, len(changed), _CHUNK)
    ]
    bytes_again: Grey = torch.cat(altered)[:, 0].round().to(torch.uint8).numpy()
    return predict(network, data.pictures[plain], device)[1], predict(network, bytes_again, device)[1]
