"""Frozen parts of a Lite0 with their batch norms folded in: the same outputs in half the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class FoldedConvolution:
    """A convolution with its batch norm, activation and centring."""

    weight: Tensor
    bias: Tensor
    stride: int
    groups: int
    padding: tuple[int, int]  # zeros before and behind, in both directions
    clipped: bool  # by ReLU6
    centre: Tensor | None  # (outputs, 1, 1), subtracted last

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the layers make of x (batch, channels, h, w)."""
        near, far = self.padding
        if near != far:
            x, near = functional.pad(x, (near, far, near, far)), 0
        x = functional.conv2d(x, self.weight, self.bias, self.stride, near, groups=self.groups)
        if self.clipped:
            x.clamp_(0, 6)
        return x if self.centre is None else x.sub_(self.centre)


@dataclass(frozen=True, slots=True)
class FoldedBlock:
    """Convolutions one after another, their input added where `adds`."""

    convolutions: tuple[FoldedConvolution, ...]
    adds: bool

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return what the block makes of x (batch, channels, h, w)."""
        y = x
        for convolution in self.convolutions:
            y = convolution(y)
        return y.add_(x) if self.adds else y


# A ZeroPad2d or an Identity, where the convolution pads by itself; None: not clipped.
Layers = tuple[nn.Module, nn.Conv2d, nn.BatchNorm2d, nn.Module | None]


@torch.no_grad()
def folded(layers: Sequence[Layers], *, adds: bool) -> FoldedBlock:
    """Return a block of what pads, filters, normalises (with the running statistics) and clips."""
    return FoldedBlock(tuple(_fold(*one) for one in layers), adds)


def _fold(
    pad: nn.Module, convolution: nn.Conv2d, norm: nn.BatchNorm2d, clip: nn.Module | None
) -> FoldedConvolution:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight = convolution.weight * scale.view(-1, 1, 1, 1)
    centre = getattr(clip, "centre", None)
    own = convolution.padding[0]
    assert isinstance(own, int)
    return FoldedConvolution(
        weight.contiguous(memory_format=torch.channels_last),
        norm.bias - norm.running_mean * scale,
        convolution.stride[0],
        convolution.groups,
        (pad.padding[0], pad.padding[1]) if isinstance(pad, nn.ZeroPad2d) else (own, own),
        clip is not None,
        centre.view(-1, 1, 1).clone() if centre is not None and bool(centre.any()) else None,
    )
