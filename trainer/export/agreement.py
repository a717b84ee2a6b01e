"""Compare what an exported network answers with what the network itself does, picture by picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from config.errors import BtError
from trainer.images.arrays import Floats, Grey, planes
from trainer.networks.classifier import Classifier
from trainer.networks.inference import in_batches

OUTPUTS = ("logits", "features", "maps")
# Of an output's largest value, and of 1 where all are smaller: float32 sums have rounding of their own.
TOLERANCE = 1e-4

Answers = tuple[Floats, Floats, Floats]
Answer = Callable[[Grey], Answers]  # pictures (batch, 1 or 3, S, S) -> logits, features, maps


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far apart two programs' answers about the same pictures were."""

    pictures: int
    differences: dict[str, float]  # output -> the largest, as a share of the output's largest value or of 1
    labels: int  # pictures whose likeliest class differs

    @property
    def worst(self) -> float:
        """The largest difference of any output; NaN if an answer was no number."""
        return float(np.max(list(self.differences.values())))


def network_answers(network: Classifier) -> Answer:
    """Return what asks the network itself, in float32 on its device."""

    @torch.inference_mode()
    def ask(pictures: Grey) -> Answers:
        device = next(network.parameters()).device
        logits, features, maps = (one.cpu().numpy() for one in network(torch.from_numpy(pictures).to(device)))
        return logits, features, maps

    return ask


def answered(network: Answer, pictures: Iterable[Grey]) -> list[tuple[Grey, Answers]]:
    """Return pictures, parts of any number of inputs (n, S, S[, 3]), with what the network says of them."""
    batches = [batch for part in pictures for batch in in_batches(part)]
    return [(batch, network(planes(batch))) for batch in batches]


def compare(known: Iterable[tuple[Grey, Answers]], exported: Answer) -> Agreement:
    """Return how far apart an exported network is from what `answered` tells of the network itself."""
    count, labels = 0, 0
    largest = dict.fromkeys(OUTPUTS, 1.0)
    apart = dict.fromkeys(OUTPUTS, 0.0)
    for batch, exactly in known:
        said = exported(planes(batch))
        count += len(batch)
        labels += int((said[0].argmax(axis=1) != exactly[0].argmax(axis=1)).sum())
        for name, one, other in zip(OUTPUTS, said, exactly, strict=True):
            largest[name] = max(largest[name], float(np.abs(other).max(initial=0)))
            # np.maximum keeps NaN, which max() may lose
            apart[name] = float(np.maximum(apart[name], np.abs(one - other).max(initial=0)))
    return Agreement(count, {name: apart[name] / largest[name] for name in OUTPUTS}, labels)


def check(agreement: Agreement, program: str) -> None:
    """Raise BtError if answers differ by more than `TOLERANCE`, or are no numbers."""
    if not agreement.worst <= TOLERANCE:
        told = ", ".join(f"{name} {value:.1e}" for name, value in agreement.differences.items())
        raise BtError(
            f"{program} computes something else than the network ({told}; allowed is {TOLERANCE:.0e}): "
            "nothing is written",
            hint="tell the project, with the versions of torch, onnx and openvino",
        )
