"""The networks: a registry of architectures, all with the same three outputs.

Every network takes uint8 pictures (batch, 1, S, S), scales and normalises them itself, and returns

    logits   (batch, classes) float32
    features (batch, channels) float32, pooled, for the distance to the training images; the texture of a
             Lite0 (see there) follows
    maps     (batch, classes, h, w) float32, class-activation maps (Zhou et al. 2016, "Learning Deep
             Features for Discriminative Localization"); their mean plus the head's bias is the logit

so that explanation and rejection come out of the one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from config.errors import UsageError
from config.text import printable
from trainer.model.spec import Preprocessing
from trainer.networks.classifier import Classifier
from trainer.networks.lite0 import CHANNELS, Lite0


@dataclass(frozen=True, slots=True)
class Architecture:
    """One entry of the registry."""

    description: str
    body: Callable[[dict[str, Any]], tuple[nn.Module, int]]  # options -> (module, its output channels)
    grey: bool  # whether the body takes one channel; others get the grey channel three times
    mean: float = 0.5  # what the body was (or will be) trained with
    std: float = 0.5
    # Depthwise convolutions have no fast bfloat16 kernels for training on a processor.
    float32_on_cpu: bool = False
    image_size: int = 256  # unless another is asked for


def build(
    architecture: str, classes: int, options: dict[str, Any] | None = None, how: Preprocessing | None = None
) -> Classifier:
    """Return a new network with random weights; raise UsageError for a name that is not in the registry."""
    entry = registered(architecture)
    body, channels = entry.body(options or {})
    network = Classifier(body, channels, classes, grey=entry.grey, how=how or Preprocessing())
    network.float32_on_cpu = entry.float32_on_cpu
    return network


def registered(architecture: str) -> Architecture:
    """Return an architecture by its name; raise UsageError if there is none."""
    entry = ARCHITECTURES.get(architecture)
    if entry is None:
        raise UsageError(
            f"there is no architecture {printable(repr(architecture))}", hint="bt-train models lists them"
        )
    return entry


def _conv(inputs: int, outputs: int, *, size: int = 3, stride: int = 1, norm: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=not norm)
    ]
    if norm:
        layers.append(nn.BatchNorm2d(outputs))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def _cnn(options: dict[str, Any]) -> tuple[nn.Module, int]:
    """The default: 5x5/2 stem, then 3x3 stages with max-pooling between; 1/16 of the input's side."""
    a, b, c, d = options.get("channels", (32, 48, 96, 192))
    body = nn.Sequential(
        _conv(1, a, size=5, stride=2),
        nn.MaxPool2d(2),
        _conv(a, b),
        nn.MaxPool2d(2),
        _conv(b, c),
        nn.MaxPool2d(2),
        _conv(c, d),
        _conv(d, d),
    )
    return body, d


def _seed_cnn(options: dict[str, Any]) -> tuple[nn.Module, int]:
    """The network the project began with: convolution, ReLU, max-pool, no normalisation."""
    channels = options.get("channels", (16, 32, 64, 128))
    layers: list[nn.Module] = []
    before = 1
    for after in channels:
        layers += [_conv(before, after, norm=False), nn.MaxPool2d(2)]
        before = after
    return nn.Sequential(*layers), before


def _torchvision(name: str) -> Callable[[dict[str, Any]], tuple[nn.Module, int]]:
    def make(_: dict[str, Any]) -> tuple[nn.Module, int]:
        from torchvision import models

        whole = getattr(models, name)(weights=None)
        if name.startswith("resnet"):
            return nn.Sequential(*list(whole.children())[:-2]), whole.fc.in_features
        channels = {"efficientnet_b0": 1280, "mobilenet_v3_small": 576, "mobilenet_v3_large": 960}
        return whole.features, channels[name]

    return make


def _lite0(**options: int) -> Callable[[dict[str, Any]], tuple[nn.Module, int]]:
    def make(_: dict[str, Any]) -> tuple[nn.Module, int]:
        return Lite0(**options), options.get("channels", CHANNELS)

    return make


# Their ImageNet weights are installed with this project: nothing is downloaded to start from them.
WITH_WEIGHTS = frozenset({"efficientnet_lite0", "lite0_short", "lite0_six"})

ARCHITECTURES: dict[str, Architecture] = {
    "cnn": Architecture(
        "from scratch, the default: convolution, batch norm, ReLU, max-pool", _cnn, grey=True, image_size=128
    ),
    "seed-cnn": Architecture("from scratch, as the project began: no normalisation", _seed_cnn, grey=True),
    "resnet18": Architecture(
        "torchvision's ResNet-18 (He et al. 2016)", _torchvision("resnet18"), grey=False
    ),
    "resnet50": Architecture(
        "torchvision's ResNet-50 (He et al. 2016)", _torchvision("resnet50"), grey=False
    ),
    "efficientnet_b0": Architecture(
        "torchvision's EfficientNet-B0 (Tan and Le 2019)",
        _torchvision("efficientnet_b0"),
        grey=False,
        float32_on_cpu=True,
    ),
    "efficientnet_lite0": Architecture(
        "EfficientNet-Lite0, from ImageNet weights", _lite0(), grey=False, float32_on_cpu=True, image_size=224
    ),
    "lite0_short": Architecture(
        "five of Lite0's seven stages, grey, from ImageNet weights",
        _lite0(inputs=1, stages=5, channels=256),
        grey=True,
        float32_on_cpu=True,
        image_size=224,
    ),
    "lite0_six": Architecture(
        "six of Lite0's seven stages, grey, from ImageNet weights",
        _lite0(inputs=1, stages=6, channels=256),
        grey=True,
        float32_on_cpu=True,
        image_size=224,
    ),
    "mobilenet_v3_small": Architecture(
        "torchvision's MobileNetV3 small (Howard et al. 2019)",
        _torchvision("mobilenet_v3_small"),
        grey=False,
        float32_on_cpu=True,
    ),
    "mobilenet_v3_large": Architecture(
        "torchvision's MobileNetV3 large (Howard et al. 2019)",
        _torchvision("mobilenet_v3_large"),
        grey=False,
        float32_on_cpu=True,
    ),
}
