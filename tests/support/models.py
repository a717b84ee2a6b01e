"""A model of one's own beside the shipped one: another network, threshold, band and figures."""

from __future__ import annotations

from pathlib import Path

import torch

from trainer.model.spec import Decision, ModelSpec, Preprocessing, Provenance
from trainer.model.weights import write_weights
from trainer.networks.loading import tensors_of
from trainer.networks.registry import build

OWN = ModelSpec(
    name="mine",
    version="7",
    architecture="cnn",
    classes=("no", "yes"),
    meanings={"no": "nothing found", "yes": "something found"},
    preprocessing=Preprocessing(image_size=64),
    decision=Decision(positive="yes", threshold=0.4, uncertain_low=0.3, uncertain_high=0.5),
    provenance=Provenance(metrics={"validation": {"accuracy": {"value": 0.123}}}),
)


def own_model(place: Path, seed: int = 1) -> Path:
    """Write a small untrained model; the same file each time."""
    torch.manual_seed(seed)
    write_weights(place, OWN, tensors_of(build("cnn", 2).eval()))
    return place
