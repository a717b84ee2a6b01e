"""Check that an engine computes what the trained network computes, on the probe pictures.

That is told by the reference answers in the weights file. For files of earlier versions, which have none,
torch computes them, if it is there.
"""

from __future__ import annotations

import numpy as np

from config.errors import WeightsError
from config.extras import installed
from config.text import printable
from daemon.engines.base import Engine, EngineOutput
from daemon.engines.foreign_graph import CUT_OFF
from trainer.images.arrays import Floats
from trainer.model.foreign_network import ForeignNetwork
from trainer.model.layers import is_of_timm, localisation
from trainer.model.probes import probes
from trainer.model.reference import Reference, stored_reference
from trainer.model.weights import Weights


def check_reference(weights: Weights, engine: Engine) -> str:
    """Return in words what a float32 engine was compared with.

    Raises WeightsError if it computes something else, or what it computes are no numbers.
    """
    pictures = probes(weights.spec.preprocessing.image_size, weights.spec.preprocessing.channels)
    said = engine.run(pictures)
    _check_numbers(weights, said)
    if weights.spec.foreign is not None:
        return "not compared with its training: it was not trained here"
    reference = stored_reference(weights.tensors, len(weights.spec.classes))
    whose = "training"
    if reference is None:
        reference, whose = _through_torch(weights), "torch"
    if reference is None:
        return "not compared with its training: this weights file of an earlier version has no reference"
    if difference := reference.difference(said.logits, said.features, said.maps):
        raise WeightsError(
            f"what is computed here of {printable(str(weights.path))} is not what its {whose} computed "
            f"({difference}): the file was changed, or this machine computes wrongly",
            hint="copy it again from where it was trained",
        )
    return f"computes what its {whose} computed of {len(pictures)} probe pictures"


def _check_numbers(weights: Weights, said: EngineOutput) -> None:
    """Refuse answers that are no numbers, and maps that are not those of the logits."""
    if not all(np.isfinite(one).all() for one in (said.logits, said.features, said.maps)):
        raise WeightsError("what the network computes is not finite", hint="train it again")
    if weights.spec.foreign is not None:
        _check_meaning(weights.spec.foreign, said.logits)
        return
    if localisation(weights.spec.architecture) is not None:
        return  # its lesion map's highest places count, not the mean: the reference tells of it
    bias = weights.tensors["head.bias"].astype(np.float32)
    if not np.allclose(said.maps.mean(axis=(2, 3)) + bias, said.logits, rtol=1e-3, atol=1e-3):
        raise WeightsError("the network's maps do not add up to its logits", hint="train it again")


def _check_meaning(foreign: ForeignNetwork, logits: Floats) -> None:
    """Refuse numbers that cannot be what the description says they are."""
    fault, gives = "", ""
    if foreign.gives == "softmax" and not np.allclose(np.exp(logits).sum(axis=1), 1, atol=0.01):
        fault, gives = "do not add up to 1", "logits"
    elif foreign.gives == "sigmoid" and (np.abs(logits[:, 1]) >= CUT_OFF * 0.999).all():
        fault, gives = "do not lie between 0 and 1", "logits"
    elif foreign.gives == "logits" and (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        fault, gives = "are probabilities: they add up to 1", "softmax"
    if fault:
        raise WeightsError(
            f"the network's numbers {fault}, the description says {foreign.gives}",
            hint=f"write gives = '{gives}' under [output]",
        )


def _through_torch(weights: Weights) -> Reference | None:
    needed = ["torch", "torchvision", *(["timm"] if is_of_timm(weights.spec.architecture) else [])]
    if not all(map(installed, needed)):
        return None
    from trainer.networks.inference import reference_of
    from trainer.networks.loading import load

    return reference_of(load(weights), weights.spec.preprocessing)
