"""The networks: a registry of architectures, all with the same three outputs.

Every network takes uint8 pictures (batch, 1 or 3, S, S), scales and normalises them itself, and returns

    logits   (batch, classes) float32
    features (batch, channels) float32, pooled, for the distance to the training images; the texture of a
             Lite0 (see there) follows
    maps     (batch, classes, h, w) float32, class-activation maps (Zhou et al. 2016, "Learning Deep
             Features for Discriminative Localization"); their mean plus the head's bias is the logit. Of a
             network that localises lesions: the activation map and the lesion map, weighed, at the latter's
             resolution

so that explanation and rejection come out of the one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from config.errors import UsageError
from config.text import printable
from trainer.model.layers import TIMM, Block, Convolution, Layer, described, is_of_timm, localisation
from trainer.model.spec import IMAGENET_MEAN, IMAGENET_STD, PerChannel, Preprocessing
from trainer.networks.body import Body, PlainBody
from trainer.networks.classifier import Classifier
from trainer.networks.lite0 import Lite0, load_imagenet
from trainer.networks.timm_body import TimmBody, load_timm_weights, timm_defaults

# (options, what the pictures are) -> (module, its output channels)
BodyMaker = Callable[[dict[str, Any], Preprocessing], tuple[Body, int]]


@dataclass(frozen=True, slots=True)
class Pretrained:
    """ImageNet weights of an architecture."""

    load: Callable[[Any], None]  # puts them into a body
    installed: bool  # with this project: nothing is downloaded to start from them
    load_file: Callable[[Any, Path], None] | None = None  # the same from a file, where that is known


@dataclass(frozen=True, slots=True)
class Architecture:
    """One entry of the registry."""

    description: str
    body: BodyMaker
    pretrained: Pretrained | None = None
    grey: bool = False  # the body takes grey as one channel; others get it three times
    # What the body was (or will be) trained with, in colour; grey pictures are around one half.
    mean: PerChannel = IMAGENET_MEAN
    std: PerChannel = IMAGENET_STD
    # Depthwise convolutions have no fast bfloat16 kernels for training on a processor.
    float32_on_cpu: bool = False
    image_size: int = 256  # unless another is asked for


def build(
    architecture: str,
    classes: int,
    options: dict[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
) -> Classifier:
    """Return a new network with random weights; raise UsageError for a name that is not in the registry."""
    entry = registered(architecture)
    preprocessing = preprocessing or Preprocessing()
    body, channels = entry.body(options or {}, preprocessing)
    network = Classifier(body, (channels, classes), localisation(architecture), entry.grey, preprocessing)
    network.float32_on_cpu = entry.float32_on_cpu
    return network


def registered(architecture: str) -> Architecture:
    """Return an architecture by its name; raise UsageError if there is none."""
    if is_of_timm(architecture):
        return _timm(architecture.removeprefix(TIMM))
    entry = ARCHITECTURES.get(architecture)
    if entry is None:
        raise UsageError(
            f"there is no architecture {printable(repr(architecture))}", hint="bt-train models lists them"
        )
    return entry


def _timm(name: str) -> Architecture:
    """Return a network of timm; raise UsageError if it is not installed or does not know it."""
    told = timm_defaults(name)

    def make(_: dict[str, Any], pictures: Preprocessing) -> tuple[Body, int]:
        body = TimmBody(name, pictures.image_size)
        return body, body.channels

    return Architecture(
        "of timm",
        make,
        Pretrained(
            load_timm_weights(name, None),
            installed=False,
            load_file=lambda body, file: load_timm_weights(name, file)(body),
        ),
        mean=_three(told["mean"]),
        std=_three(told["std"]),
        float32_on_cpu=True,
        image_size=int(told["input_size"][-1]),
    )


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _described(name: str) -> BodyMaker:
    """Return how to make a network that `trainer.model.layers` describes."""

    def make(options: dict[str, Any], pictures: Preprocessing) -> tuple[Body, int]:
        layers = described(name, options, pictures.channels)
        assert layers is not None
        channels = next(layer.outputs for layer in reversed(layers) if isinstance(layer, Convolution))
        if any(isinstance(layer, Block) for layer in layers):
            return Lite0(layers, localisation(name)), channels
        return PlainBody(*map(_module, layers)), channels

    return make


def _module(layer: Layer) -> nn.Module:
    if not isinstance(layer, Convolution):
        return nn.MaxPool2d(2)
    convolution = nn.Conv2d(
        layer.inputs,
        layer.outputs,
        layer.kernel,
        stride=layer.stride,
        padding=layer.padding[0],
        bias=not layer.norm,
    )
    norm = [nn.BatchNorm2d(layer.outputs, eps=layer.epsilon)] if layer.norm else []
    return nn.Sequential(convolution, *norm, nn.ReLU(inplace=True))


def _resnet(name: str) -> tuple[BodyMaker, Pretrained]:
    def cut(whole: Any) -> PlainBody:
        return PlainBody(*list(whole.children())[:-2])

    return _torchvision(name, cut, {"resnet18": 512, "resnet50": 2048}[name])


def _convolutions_of(name: str, channels: int) -> tuple[BodyMaker, Pretrained]:
    return _torchvision(name, lambda whole: PlainBody(*whole.features), channels)


def _torchvision(name: str, cut: Callable[[Any], PlainBody], channels: int) -> tuple[BodyMaker, Pretrained]:
    """Return how to make torchvision's network without its head, and to load its ImageNet weights."""

    def make(_: dict[str, Any], __: Preprocessing) -> tuple[Body, int]:
        from torchvision import models

        return cut(getattr(models, name)(weights=None)), channels

    def load(body: nn.Module) -> None:
        from torchvision import models

        try:
            whole = getattr(models, name)(weights="DEFAULT")
        except OSError as error:
            raise UsageError(
                f"the pretrained weights of {name} cannot be downloaded ({printable(str(error))[:100]})",
                hint="give a local file with --init FILE",
            ) from error
        body.load_state_dict(cut(whole).state_dict())

    return make, Pretrained(load, installed=False)


# What Lite0 was trained with: 127 and 128 of 255 (Liu et al., lite models in TensorFlow's TPU repository).
_LITE0_MEAN, _LITE0_STD = 127 / 255, 128 / 255
_IMAGENET_LITE0 = Pretrained(load_imagenet, installed=True)

ARCHITECTURES: dict[str, Architecture] = {
    "cnn": Architecture(
        "from scratch, the default: convolution, batch norm, ReLU, max-pool",
        _described("cnn"),
        grey=True,
        image_size=128,
    ),
    "seed-cnn": Architecture(
        "from scratch, as the project began: no normalisation", _described("seed-cnn"), grey=True
    ),
    "resnet18": Architecture("torchvision's ResNet-18 (He et al. 2016)", *_resnet("resnet18")),
    "resnet50": Architecture("torchvision's ResNet-50 (He et al. 2016)", *_resnet("resnet50")),
    "efficientnet_b0": Architecture(
        "torchvision's EfficientNet-B0 (Tan and Le 2019)",
        *_convolutions_of("efficientnet_b0", 1280),
        float32_on_cpu=True,
    ),
    "efficientnet_lite0": Architecture(
        "EfficientNet-Lite0, from ImageNet weights",
        _described("efficientnet_lite0"),
        _IMAGENET_LITE0,
        mean=_LITE0_MEAN,
        std=_LITE0_STD,
        float32_on_cpu=True,
        image_size=224,
    ),
    "lite0_short": Architecture(
        "five of Lite0's seven stages, grey, from ImageNet weights",
        _described("lite0_short"),
        _IMAGENET_LITE0,
        mean=_LITE0_MEAN,
        std=_LITE0_STD,
        grey=True,
        float32_on_cpu=True,
        image_size=224,
    ),
    "lite0_six": Architecture(
        "six of Lite0's seven stages, grey, from ImageNet weights",
        _described("lite0_six"),
        _IMAGENET_LITE0,
        mean=_LITE0_MEAN,
        std=_LITE0_STD,
        grey=True,
        float32_on_cpu=True,
        image_size=224,
    ),
    "lite0_six_map": Architecture(
        "lite0_six with a map of where lesions are, at a sixteenth",
        _described("lite0_six_map"),
        _IMAGENET_LITE0,
        mean=_LITE0_MEAN,
        std=_LITE0_STD,
        grey=True,
        float32_on_cpu=True,
        image_size=160,
    ),
    "mobilenet_v3_small": Architecture(
        "torchvision's MobileNetV3 small (Howard et al. 2019)",
        *_convolutions_of("mobilenet_v3_small", 576),
        float32_on_cpu=True,
    ),
    "mobilenet_v3_large": Architecture(
        "torchvision's MobileNetV3 large (Howard et al. 2019)",
        *_convolutions_of("mobilenet_v3_large", 960),
        float32_on_cpu=True,
    ),
}
