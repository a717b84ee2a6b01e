"""Load networks from weights files, copy what fits, and name the tensors to store."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from config.errors import UsageError, WeightsError
from config.text import printable
from trainer.model.spec import ModelSpec
from trainer.model.weights import Tensors, Weights, network_tensors
from trainer.networks.classifier import Classifier
from trainer.networks.registry import build, registered


def load(weights: Weights) -> Classifier:
    """Return the network of a weights file, in evaluation mode; raise WeightsError if it does not fit."""
    return from_tensors(weights.spec, weights.tensors)


def from_tensors(spec: ModelSpec, tensors: Tensors) -> Classifier:
    """Return the network that a spec describes with the given tensors, in evaluation mode."""
    if spec.foreign is not None:
        raise WeightsError(
            "the weights file holds an ONNX network, which torch does not compute",
            hint="bt-daemon judges with it",
        )
    try:
        network = build(spec.architecture, len(spec.classes), spec.architecture_options, spec.preprocessing)
        own = {name: torch.from_numpy(value.copy()) for name, value in network_tensors(tensors).items()}
        counters = {name: value for name, value in network.state_dict().items() if _is_counter(name)}
        network.load_state_dict(counters | own, strict=True)
    except UsageError as error:
        raise WeightsError(
            f"the weights need an unknown architecture: {error.what}", hint="upgrade bt-daemon"
        ) from None
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        first = printable(str(error).splitlines()[0])[:160]
        raise WeightsError(
            f"the tensors do not fit the architecture {spec.architecture} ({first})", hint="train it again"
        ) from error
    return network.eval()


def tensors_of(network: nn.Module) -> Tensors:
    """Return a network's parameters and buffers as numpy arrays, named as `load` expects them.

    But for the norms' counts of training steps, which nothing here uses.
    """
    return {
        name: value.detach().cpu().float().numpy() if value.is_floating_point() else value.cpu().numpy()
        for name, value in network.state_dict().items()
        if not _is_counter(name)
    }


def copy_fitting(tensors: Tensors, network: nn.Module) -> None:
    """Start a network from another's tensors; those of another shape (another head's) stay random."""
    own = network.state_dict()
    for name, value in tensors.items():
        if name in own and tuple(own[name].shape) == value.shape:
            own[name].copy_(torch.from_numpy(value.copy()))


def load_pretrained(architecture: str, network: Classifier, file: Path | None = None) -> None:
    """Put ImageNet weights into the body; torchvision's and timm's are downloaded unless a cache has them.

    `file` holds those of a network of timm. Raises UsageError.
    """
    pretrained = registered(architecture).pretrained
    if pretrained is None:
        raise UsageError(
            f"{architecture} has no pretrained weights", hint="give --arch efficientnet_lite0, or --init FILE"
        )
    if file is None:
        pretrained.load(network.body)
    elif pretrained.load_file is None:
        raise UsageError(
            f"--pretrained-file is for networks of timm, not for {architecture}", hint="give --init FILE"
        )
    else:
        pretrained.load_file(network.body, file)


def _is_counter(name: str) -> bool:
    return name.endswith(".num_batches_tracked")
