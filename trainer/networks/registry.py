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

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from config.errors import UsageError, WeightsError
from config.text import printable
from trainer.model.spec import ModelSpec, Preprocessing
from trainer.model.weights import Tensors, Weights
from trainer.networks.lite0 import CHANNELS, Lite0, load_imagenet

Outputs = tuple[Tensor, Tensor, Tensor]


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


class Classifier(nn.Module):
    """A convolutional body, average pooling, and one linear layer: exact class-activation maps."""

    def __init__(
        self, body: nn.Module, channels: int, classes: int, *, grey: bool, how: Preprocessing
    ) -> None:
        super().__init__()
        self.body = body
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(channels, classes)
        self._grey = grey
        self._scale = 1.0 / (255.0 * how.std)
        self._shift = -how.mean / how.std
        self.float32_on_cpu = False
        self._frozen: list[nn.Module] = []

    def freeze(self, count: int) -> None:
        """Keep the first `count` parts of the body as they are, norms' statistics included.

        Raises UsageError if the body has no such parts or fewer.
        """
        parts: list[nn.Module] = getattr(self.body, "parts", [])
        if count > len(parts):
            raise UsageError(
                f"--freeze {count} cannot be: this network has {len(parts)} parts to keep as they are",
                hint="the Lite0 networks have some; give --freeze 0 for others",
            )
        self._frozen = parts[:count]
        for part in self._frozen:
            part.requires_grad_(requires_grad=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Classifier:
        """Switch between training and evaluation; frozen parts are always evaluated."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    @torch.no_grad()
    def shift_logits(self, by: npt.NDArray[np.float32]) -> None:
        """Add to the logits (classes,) from now on."""
        self.head.bias.add_(torch.from_numpy(by).to(self.head.bias.device))

    def normalised(self, pictures: Tensor) -> Tensor:
        """Return what the body takes, (batch, 1 or 3, S, S) float32, of uint8 or float 0..255 pictures."""
        x = pictures.float() * self._scale + self._shift
        return x if self._grey else x.expand(-1, 3, -1, -1)

    def forward(self, pictures: Tensor) -> Outputs:
        """Return logits, features and maps of uint8 (or already augmented float 0..255) pictures."""
        found, texture = self._found(pictures)  # (batch, channels, h, w), (batch, k)
        features = found.mean(dim=(2, 3))
        logits = self.head(self.drop(features))
        # The head applied at every place; a 1x1 convolution with the head's weights.
        maps = nn.functional.conv2d(found, self.head.weight[:, :, None, None])
        described = features if texture is None else torch.cat((features, texture), dim=1)
        return logits.float(), described.float(), maps.float()

    def _found(self, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what the body finds, and the texture where it tells of one."""
        if not isinstance(self.body, Lite0):
            return self.body(self.normalised(pictures)), None
        found, texture = self.body(self.normalised(pictures))
        return found, texture


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


def load(weights: Weights) -> Classifier:
    """Return the network of a weights file, in evaluation mode; raise WeightsError if it does not fit."""
    return from_tensors(weights.spec, weights.tensors)


def from_tensors(spec: ModelSpec, tensors: Tensors) -> Classifier:
    """Return the network that a spec describes with the given tensors, in evaluation mode."""
    try:
        network = build(spec.architecture, len(spec.classes), spec.architecture_options, spec.preprocessing)
        own = {name: torch.from_numpy(value.copy()) for name, value in tensors.items() if _is_own(name)}
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


def load_pretrained(architecture: str, network: Classifier) -> None:
    """Put ImageNet weights into the body; torchvision's are downloaded unless torch's cache has them."""
    if architecture in WITH_WEIGHTS:
        assert isinstance(network.body, Lite0)
        load_imagenet(network.body)
        return
    from torchvision import models

    if architecture in {"cnn", "seed-cnn"}:
        raise UsageError(
            f"{architecture} has no pretrained weights", hint="give --arch efficientnet_lite0, or --init FILE"
        )
    try:
        whole = getattr(models, architecture)(weights="DEFAULT")
    except OSError as error:
        raise UsageError(
            f"the pretrained weights of {architecture} cannot be downloaded ({printable(str(error))[:100]})",
            hint="give a local file with --init FILE",
        ) from error
    body = (
        nn.Sequential(*list(whole.children())[:-2]) if architecture.startswith("resnet") else whole.features
    )
    network.body.load_state_dict(body.state_dict())


def parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def gflops(network: nn.Module, image_size: int) -> float:
    """Return the cost of one picture in GFLOP, a multiplication and an addition counted as two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 1, image_size, image_size, dtype=torch.uint8))
    return float(counter.get_total_flops()) / 1e9


def _is_own(name: str) -> bool:
    # Files of earlier versions may hold ranges for engines in 8-bit integers.
    return not name.startswith(("ood.", "int8."))


def _is_counter(name: str) -> bool:
    return name.endswith(".num_batches_tracked")


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
