"""A batch of training examples: pictures, labels and lesion maps, from the training set to the step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures on their way to a training step, with what is known of where lesions are."""

    pictures: Tensor  # (batch, 1 or 3, S, S) uint8; float32 in 0..255 once augmented
    labels: Tensor  # (batch,) int64
    maps: Tensor  # (batch, 1, M, M) float32, M = S // 4: the share of each cell that lesion covers, 0..1
    known: Tensor  # (batch,) bool: whether the map is known (always for tumour-free pictures: all zero)

    def parts(self, count: int) -> list[Batch]:
        """Return the batch in at most so many parts of about the same size."""
        if count == 1:
            return [self]
        pieces = [part.chunk(count) for part in (self.pictures, self.labels, self.maps, self.known)]
        return [Batch(*piece) for piece in zip(*pieces, strict=True)]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(*(part.to(device) for part in (self.pictures, self.labels, self.maps, self.known)))


def changed(batch: Batch, places: Tensor, pictures: Tensor, label: int, maps: Tensor) -> Batch:
    """Return the batch with other pictures (k, 1, S, S), float in 0..255, and their maps at k places.

    Their label is `label` and their maps (k, 1, M, M) are known. The batch given is left as it is.
    """
    if not len(places):
        return batch
    all_pictures, labels = batch.pictures.clone(), batch.labels.clone()
    all_maps, known = batch.maps.clone(), batch.known.clone()
    all_pictures[places] = pictures.round().clamp(0, 255).to(torch.uint8)
    labels[places], all_maps[places], known[places] = label, maps, True
    return Batch(all_pictures, labels, all_maps, known)
