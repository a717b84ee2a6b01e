"""A batch of training examples: pictures, labels and lesion maps, from the training set to the step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures on their way to a training step, with what is known of where lesions are."""

    pictures: Tensor  # (batch, 1, S, S) uint8; float32 in 0..255 once augmented
    labels: Tensor  # (batch,) int64
    maps: Tensor  # (batch, 1, M, M) float32, M = S // 4: the share of each cell that lesion covers, 0..1
    known: Tensor  # (batch,) bool: whether the map is known (always for tumour-free pictures: all zero)
