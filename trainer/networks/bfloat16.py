"""Prepare networks for bfloat16: round weights so that they lose nothing, centre what is computed.

An engine folds each batch norm into the convolution before it, then rounds weights and bias to eight bits.
In a network trained in float32 that rounding is most of what bfloat16 changes (measured for
lite0_short: two thirds of the variance of the logits' difference). So it is done once, before
calibration and measurement: what is judged, shipped and compared with is the rounded network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainer.networks.classifier import blank_pictures

# A norm that lets through less than this has no product worth rounding.
_SMALLEST_SCALE = 1e-12
_LARGEST_HALF = 65_504.0


@torch.no_grad()
def round_to_bfloat16(network: nn.Module, image_size: int) -> None:
    """Change weights and convolutions' biases so that they, folded, are bfloat16 numbers.

    A convolution's weight becomes the rounded product divided by the norm's scale, which folding
    multiplies again. It, and the norms' scales, shifts and means, become float16 numbers: a folded bias is
    what bfloat16 makes of it but for their steps, an eighth of its own.
    """
    layers = _layers(network, image_size)
    for folded in {norm for _, norm in layers if norm is not None}:
        for numbers in (folded.weight, folded.bias, folded.running_mean):
            assert numbers is not None
            numbers.copy_(_as_half(numbers))
    for layer, norm in layers:
        scale = torch.ones(len(layer.weight)) if norm is None else _scale(norm)
        scale = torch.where(scale.abs() > _SMALLEST_SCALE, scale, torch.ones_like(scale))
        wide = scale.to(layer.weight.device).view(-1, *[1] * (layer.weight.dim() - 1))
        rounded = (layer.weight * wide).bfloat16().float() / wide
        if norm is not None:
            _round_bias(layer, norm)
        # Three bits more than bfloat16 has: the product rounds to the same number, the file is half as large.
        layer.weight.copy_(_as_half(rounded))


class CentredReLU6(nn.Module):
    """ReLU6, and each channel's usual value taken off: bfloat16 has its fine steps round 0.

    What rounding a number to bfloat16 loses is proportional to the number; one of ImageNet's channels moves
    by 0.02 about 2.64, where the steps are 0.016, and sharp filters follow. What is taken off is added again
    by the norm after the next convolution: only where that sees padding do the values change, as if the
    image went on with the usual one. ("High bias absorption" of Nagel et al. 2019, "Data-Free Quantization
    Through Weight Equalization and Bias Correction", with the median for a bound.)
    """

    centre: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return clipped values (batch, channels, h, w) without the usual ones."""
        return nn.functional.relu6(x) - self.centre.view(-1, 1, 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load; weights made before there were centres have none, which is zeros."""
        state_dict.setdefault(prefix + "centre", torch.zeros_like(self.centre))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def take_usual_off(clipped: nn.Module, y: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Take each channel's usual value off a clipped output from now on, and return it without."""
    assert isinstance(clipped, CentredReLU6)
    usual = usual_values(y)
    clipped.centre.copy_(usual)
    pass_on(usual, convolution, norm)
    return y - usual.view(-1, 1, 1)


def pass_on(usual: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Have the norm after a convolution add what comes of these values (channels,) of its input."""
    weight = convolution.weight.sum(dim=(2, 3))  # (outputs, inputs of a group)
    made = weight[:, 0] * usual if convolution.groups > 1 else weight @ usual
    norm.bias.add_(made * _scale(norm))


def usual_values(x: Tensor) -> Tensor:
    """Return the medians of the channels of (batch, channels, h, w), as bfloat16 has them."""
    return x.transpose(0, 1).flatten(1).median(dim=1).values.bfloat16().float()


def _round_bias(layer: nn.Conv2d | nn.Linear, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    scale = _scale(norm)
    taken_off = norm.running_mean if layer.bias is None else norm.running_mean - layer.bias
    folded = norm.bias - taken_off * scale
    norm.bias.copy_(_as_half(folded.bfloat16().float() + taken_off * scale))


def _as_half(numbers: Tensor) -> Tensor:
    """Return float32 numbers that are float16 numbers too, or as they are if one is too large for that."""
    return numbers.half().float() if bool(numbers.abs().max() < _LARGEST_HALF) else numbers


def _scale(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_var is not None
    return norm.weight / (norm.running_var + norm.eps).sqrt()


def _layers(network: nn.Module, image_size: int) -> list[tuple[nn.Conv2d | nn.Linear, nn.BatchNorm2d | None]]:
    """Return each layer with the norm that takes its output, found by watching one picture go through."""
    made_by: dict[int, nn.Conv2d] = {}
    alive: list[Tensor] = []  # so that no two outputs have the same id
    norms: dict[nn.Module, nn.BatchNorm2d] = {}

    def remember(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        made_by[id(output)] = layer
        alive.append(output)

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        if id(inputs[0]) in made_by:
            norms[made_by[id(inputs[0])]] = norm

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(remember) for layer in layers if isinstance(layer, nn.Conv2d)]
    hooks += [
        norm.register_forward_pre_hook(look) for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)
    ]
    was_training = network.training
    device = next(network.parameters()).device
    try:
        network.eval()(blank_pictures(network, 1, image_size).to(device))
    finally:
        for hook in hooks:
            hook.remove()
        network.train(was_training)
    return [(layer, norms.get(layer)) for layer in layers]
