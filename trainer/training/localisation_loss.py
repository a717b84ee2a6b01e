"""Loss of lesion maps: cross-entropy of each place and the Dice loss, where lesions are known."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

_DICE = 0.5  # weight beside the cross-entropy


def localisation_loss(lesions: Tensor, maps: Tensor, known: Tensor) -> Tensor:
    """Return the loss, a scalar, of lesion maps' logits (batch, h, w); 0 where nothing is known.

    `maps` (batch, 1, M, M) hold the share of each cell that lesion covers, 0..1; `known` (batch,) says of
    which pictures. Dice of the whole batch at once (Milletari et al. 2016, "V-Net"): of an empty map alone it
    would say nothing.
    """
    if not bool(known.any()):
        return lesions.sum() * 0.0
    target = functional.adaptive_avg_pool2d(maps[known], (lesions.shape[1], lesions.shape[2]))[:, 0]
    logits = lesions[known]
    entropy = functional.binary_cross_entropy_with_logits(logits, target)
    likely = logits.sigmoid()
    dice = 1 - (2 * (likely * target).sum() + 1) / (likely.sum() + target.sum() + 1)
    return entropy + _DICE * dice
