"""Layers of the networks that `bt-train` makes by default: one description for torch and for OpenVINO.

`trainer.networks` makes torch modules of it, which can be trained; `daemon.engines.openvino_graph` makes a
graph of it and of a weights file's tensors, without torch. Names are those of the tensors in weights files,
without the "body." that they begin with there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

# (repeats, kernel, stride, expansion, outputs) of each of Lite0's stages, table 1 of Tan and Le 2019,
# "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks".
_LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_LITE0_STEM = 32
TIMM = "timm:"  # before the name that an architecture has there
# Blocks whose output is described as texture: the last of the third and of the fifth stage.
_TEXTURED = frozenset({4, 10})
# After so many blocks pictures are small sums of many channels: rounding hardly matters any more.
_CENTRED_BLOCKS = 5
_TENSORFLOW_EPSILON = 1e-3  # of the norms that Lite0 was trained with


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution with what follows it: batch norm, activation, centring."""

    name: str  # of its tensors
    inputs: int  # channels
    outputs: int
    kernel: int
    stride: int
    padding: tuple[int, int]  # zeros before and behind, in both directions
    activation: Literal["relu", "relu6", ""]
    norm: str = ""  # of its batch norm's tensors; without one it has a bias
    epsilon: float = 1e-5
    depthwise: bool = False
    centre: str = ""  # of the tensor (outputs,) that is subtracted last, if the file has it


@dataclass(frozen=True, slots=True)
class MaxPool:
    """The largest of each square of 2 x 2; an odd row or column at the end is left out."""


@dataclass(frozen=True, slots=True)
class Block:
    """Convolutions one after another, their input added where the shapes agree."""

    convolutions: tuple[Convolution, ...]
    textured: bool  # the mean over the picture of what it makes goes into the features too

    @property
    def adds(self) -> bool:
        """Whether its input is added to what it makes."""
        first, last = self.convolutions[0], self.convolutions[-1]
        return first.inputs == last.outputs and all(one.stride == 1 for one in self.convolutions)


Layer = Convolution | MaxPool | Block


@dataclass(frozen=True, slots=True)
class Localisation:
    """A map of where lesions are, in which each place counts for itself, beside the body's pooled features.

    Of what an earlier block makes and, enlarged to its size, the last one: twice the resolution of the body's
    map. The mean of its highest places goes into the logits, weighed for each class (`places.weight`).
    """

    block: int  # the earlier one
    hidden: Convolution  # of both blocks' channels, 1x1
    last: Convolution  # to one logit for each place, 1x1
    highest: int  # so many places speak for the image


def described(architecture: str, options: Mapping[str, Any], channels: int = 1) -> tuple[Layer, ...] | None:
    """Return the layers of an architecture's body, in order; None for one that torchvision makes.

    `options` are `ModelSpec.architecture_options`, `channels` those of the pictures (1 or 3); a body that
    begins with three gets a grey picture three times. Raises ValueError or TypeError for options that
    cannot be.
    """
    maker = _DESCRIPTIONS.get(architecture)
    if maker is None:
        return None
    first, *others = maker(**options)
    assert isinstance(first, Convolution)
    return (replace(first, inputs=max(first.inputs, channels)), *others)


def localisation(architecture: str) -> Localisation | None:
    """Return how an architecture localises lesions, None for one that does not."""
    return _LOCALISATIONS.get(architecture)


def is_of_timm(architecture: str) -> bool:
    """Whether it is a network of the package timm, which then must be installed."""
    return architecture.startswith(TIMM)


def is_described(architecture: str) -> bool:
    """Return whether an architecture is described here, not torchvision's."""
    return architecture in _DESCRIPTIONS


def cnn(channels: tuple[int, int, int, int] = (32, 48, 96, 192)) -> tuple[Layer, ...]:
    """5x5/2 stem, then 3x3 stages with max-pooling between; 1/16 of the input's side."""
    a, b, c, d = channels
    return (
        _normed(0, 1, a, 5, 2), MaxPool(), _normed(2, a, b), MaxPool(), _normed(4, b, c), MaxPool(),
        _normed(6, c, d), _normed(7, d, d),
    )  # fmt: skip


def seed_cnn(channels: tuple[int, ...] = (16, 32, 64, 128)) -> tuple[Layer, ...]:
    """The network the project began with: convolution, ReLU, max-pool, no normalisation."""
    layers: list[Layer] = []
    before = 1
    for after in channels:
        layers += [Convolution(f"{len(layers)}.0", before, after, 3, 1, (1, 1), "relu"), MaxPool()]
        before = after
    return tuple(layers)


def lite0(inputs: int, stages: int, channels: int) -> tuple[Layer, ...]:
    """EfficientNet-Lite0, whole (3, 7, 1280) or its first stages; see `trainer.networks.lite0`."""
    begin = _same("_conv_stem", (inputs, _LITE0_STEM), 3, 2, norm="_bn0", centre="_relu.centre")
    blocks = _lite0_blocks(stages)
    end = _same("_conv_head", (blocks[-1].convolutions[-1].outputs, channels), norm="_bn1")
    return (begin, *blocks, end)


def _lite0_localisation(stages: int, earlier: int, hidden: int) -> Localisation:
    blocks = _lite0_blocks(stages)
    inputs = sum(block.convolutions[-1].outputs for block in (blocks[earlier], blocks[-1]))
    return Localisation(
        earlier,
        Convolution("locate.0", inputs, hidden, 1, 1, (0, 0), "relu6", norm="locate.1"),
        Convolution("locate.3", hidden, 1, 1, 1, (0, 0), ""),
        highest=4,
    )


def _lite0_blocks(stages: int) -> list[Block]:
    blocks: list[Block] = []
    inputs = _LITE0_STEM
    for repeats, kernel, stride, expansion, outputs in _LITE0_STAGES[:stages]:
        for repeat in range(repeats):
            place = len(blocks)
            convolutions = _lite0_block(
                f"_blocks.{place}", (inputs, inputs * expansion, outputs), kernel,
                stride if repeat == 0 else 1, centred=place < _CENTRED_BLOCKS,
            )  # fmt: skip
            blocks.append(Block(convolutions, textured=place in _TEXTURED))
            inputs = outputs
    return blocks


def _lite0_block(
    name: str, widths: tuple[int, int, int], kernel: int, stride: int, *, centred: bool
) -> tuple[Convolution, ...]:
    """Expand, filter each channel, project back."""
    inputs, inner, outputs = widths
    first, second = (f"{name}._relu{place}.centre" if centred else "" for place in (0, 1))
    expand = _same(f"{name}._expand_conv", (inputs, inner), norm=f"{name}._bn0", centre=first)
    filtered = replace(
        _same(f"{name}._depthwise_conv", (inner, inner), kernel, stride, norm=f"{name}._bn1", centre=second),
        depthwise=True,
    )
    project = replace(_same(f"{name}._project_conv", (inner, outputs), norm=f"{name}._bn2"), activation="")
    return (expand, filtered, project) if inner > inputs else (filtered, project)


def _same(
    name: str, channels: tuple[int, int], kernel: int = 1, stride: int = 1, *, norm: str, centre: str = ""
) -> Convolution:
    """Pad as TensorFlow's SAME does for even sides: with stride 2 one pixel more at the far edge."""
    total = kernel - stride
    padding = (total // 2, total - total // 2)
    return Convolution(
        name, *channels, kernel, stride, padding, "relu6",
        norm=norm, epsilon=_TENSORFLOW_EPSILON, centre=centre,
    )  # fmt: skip


def _normed(place: int, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> Convolution:
    padding = (kernel // 2, kernel // 2)
    return Convolution(f"{place}.0", inputs, outputs, kernel, stride, padding, "relu", norm=f"{place}.1")


_DESCRIPTIONS: dict[str, Callable[..., tuple[Layer, ...]]] = {
    "cnn": cnn,
    "seed-cnn": seed_cnn,
    "efficientnet_lite0": lambda: lite0(3, 7, 1280),
    "lite0_short": lambda: lite0(1, 5, 256),
    "lite0_six": lambda: lite0(1, 6, 256),
    "lite0_six_map": lambda: lite0(1, 6, 256),
}
# Block 10 ends Lite0's fifth stage, the last one at a sixteenth of the picture's side.
_LOCALISATIONS = {"lite0_six_map": _lite0_localisation(6, earlier=10, hidden=96)}
