"""Untrained models, made without torch: another beside the shipped one, or a very small one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from daemon.engines.openvino_engine import open_graph
from trainer.model.layers import Block, Convolution, described, localisation
from trainer.model.probes import probes
from trainer.model.reference import Reference
from trainer.model.spec import Decision, ModelSpec, Preprocessing, Provenance
from trainer.model.weights import Tensors, read_weights, write_weights

# Another network, threshold, band and figures than the shipped model's.
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
SMALL = ModelSpec(
    name="small",
    version="1",
    architecture="cnn",
    classes=("no", "yes"),
    architecture_options={"channels": [4, 4, 8, 8]},
    preprocessing=Preprocessing(image_size=64),
)


def own_model(place: Path, seed: int = 1) -> Path:
    """Write a model of one's own; the same file each time."""
    return untrained_model(place, OWN, seed)


def untrained_model(place: Path, spec: ModelSpec, seed: int = 1) -> Path:
    """Write a model with random weights and the reference answers that OpenVINO gives."""
    tensors = random_tensors(spec, seed)
    write_weights(place, spec, tensors)
    engine = open_graph(read_weights(place))
    said = engine.run(probes(spec.preprocessing.image_size, spec.preprocessing.channels))
    write_weights(
        place, spec, tensors | Reference(said.logits, said.features, said.maps.mean(axis=(2, 3))).tensors()
    )
    return place


def changed_model(place: Path, weights: Path, **tensors: npt.NDArray[np.generic]) -> Path:
    """Write a copy of a weights file with other tensors; dots in their names are double underscores."""
    read = read_weights(weights)
    others = {name.replace("__", "."): value for name, value in tensors.items()}
    assert others.keys() <= read.tensors.keys()
    write_weights(place, read.spec, read.tensors | others, read.seen)
    return place


def earlier_model(place: Path, weights: Path) -> Path:
    """Write a copy of a weights file as versions wrote it that knew of no reference answers."""
    read = read_weights(weights)
    tensors = {name: value for name, value in read.tensors.items() if not name.startswith("reference.")}
    write_weights(place, replace(read.spec, format=1), tensors, read.seen)
    return place


def random_tensors(spec: ModelSpec, seed: int) -> Tensors:
    """Return tensors for a described architecture, as its torch module would name them."""
    rng = np.random.default_rng(seed)
    tensors: Tensors = {}
    width = 0
    for layer in _convolutions(spec):
        depth = 1 if layer.depthwise else layer.inputs
        shape = (layer.outputs, depth, layer.kernel, layer.kernel)
        spread = np.sqrt(2 / (depth * layer.kernel**2))
        tensors[f"body.{layer.name}.weight"] = rng.normal(0, spread, shape).astype(np.float32)
        width = layer.outputs
        if layer.norm:
            for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
                tensors[f"body.{layer.norm}.{name}"] = np.full(width, value, dtype=np.float32)
        else:
            tensors[f"body.{layer.name}.bias"] = np.zeros(width, dtype=np.float32)
    classes = len(spec.classes)
    if (located := localisation(spec.architecture)) is not None:
        inner = located.hidden.outputs
        tensors["locate.0.weight"] = rng.normal(0, 0.1, (inner, located.hidden.inputs, 1, 1)).astype(
            np.float32
        )
        for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            tensors[f"locate.1.{name}"] = np.full(inner, value, dtype=np.float32)
        tensors["locate.3.weight"] = rng.normal(0, 0.1, (1, inner, 1, 1)).astype(np.float32)
        tensors["locate.3.bias"] = np.full(1, -3, dtype=np.float32)
        tensors["places.weight"] = rng.normal(0, 1, (classes, 1)).astype(np.float32)
    tensors["head.weight"] = rng.normal(0, 1 / np.sqrt(width), (classes, width)).astype(np.float32)
    tensors["head.bias"] = rng.normal(0, 0.1, classes).astype(np.float32)
    return tensors


def _convolutions(spec: ModelSpec) -> Iterator[Convolution]:
    for layer in described(spec.architecture, spec.architecture_options, spec.preprocessing.channels) or ():
        if isinstance(layer, Block):
            yield from layer.convolutions
        elif isinstance(layer, Convolution):
            yield layer
