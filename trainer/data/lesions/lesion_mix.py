"""The mix of changed examples in a training batch: lesions drawn and pasted, tumours healed, seams sewn."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainer.data.batch import Batch
from trainer.data.lesions.healed_lesions import heal
from trainer.data.lesions.pasted_lesions import add_seams, paste_lesions
from trainer.data.lesions.synthetic_lesions import draw_lesions


@dataclass(frozen=True, slots=True)
class Lesions:
    """How often a picture of a batch is changed, as shares from 0 to 1."""

    drawn: float = 0.0  # of the negatives: get a drawn lesion and are positive
    pasted: float = 0.0  # of the negatives: get a real lesion of another picture and are positive
    healed: float = 0.0  # of the positives with a known lesion, as far as they can be healed: are negative
    seams: float = 0.0  # of the pictures with a known map: get healthy tissue, and keep their label

    @classmethod
    def of(cls, total: float, pasted: float, healed: float, seams: float) -> Lesions:
        """Return the shares where `total` of the negatives get a lesion, `pasted` of these a real one."""
        return cls(total * (1 - pasted), total * pasted, healed, seams)


def mix_lesions(
    batch: Batch, shares: Lesions, negative: int, positive: int, generator: torch.Generator
) -> Batch:
    """Return the batch with lesions drawn, pasted, healed and seams sewn, by the shares.

    `pictures` are uint8. Lesions to paste come from the batch's own positives whose map is known and not
    empty: so they are drawn as the sampler draws, and nothing more is loaded. A batch without any gets drawn
    lesions only, in as many pictures. Healed pictures, and those with a seam, may get a lesion as all
    negatives may: what blending leaves is in both classes. What is given is left as it is; all chance comes
    from `generator`.
    """
    donors = _with_known_lesion(batch, positive)
    if not len(donors.labels):
        return draw_lesions(batch, shares.drawn + shares.pasted, negative, positive, generator)
    batch = heal(batch, shares.healed, negative, positive, generator)
    batch = add_seams(batch, shares.seams, negative, generator)
    batch = draw_lesions(batch, shares.drawn, negative, positive, generator)
    of_the_rest = shares.pasted / max(1 - shares.drawn, 1e-6)
    return paste_lesions(batch, donors, of_the_rest, negative, positive, generator)


def _with_known_lesion(batch: Batch, positive: int) -> Batch:
    here = (batch.labels == positive) & batch.known & (batch.maps.amax((1, 2, 3)) > 0)
    return Batch(batch.pictures[here], batch.labels[here], batch.maps[here], batch.known[here])
