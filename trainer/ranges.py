"""What int8 engines need to know of a network: the ranges of its convolutions' inputs, and which mind most.

An 8-bit integer stands for one of 256 values between two ends. The ends are measured on training
images, once, and kept in the weights file:

    int8.ranges (layers, 2) float32, low and high of each convolution's input
    int8.moves  (layers,) float32, how far the logits move if that convolution alone is in int8

in the order of `convolutions`. The linear head is no part of it: it costs nothing and decides all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainer.weights import Tensors

RANGES, MOVES = "int8.ranges", "int8.moves"
# More widen the ranges little.
_IMAGES = 256
# To rank layers some do; each takes one forward pass per layer.
_RANKING_IMAGES = 32
_BATCH = 32


def measure_ranges(network: nn.Module, pictures: npt.NDArray[np.uint8], device: torch.device) -> Tensors:
    """Return `int8.ranges` and `int8.moves` of a network, measured on training images (n, S, S)."""
    network.eval().to(device)
    ranges = _widest(network, _evenly(pictures, _IMAGES), device)
    moves = _moves(network, ranges, _evenly(pictures, _RANKING_IMAGES), device)
    return {RANGES: ranges, MOVES: moves}


def convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    """Return a network's convolutions by their module paths, in the order in which ranges are stored."""
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}


def _widest(
    network: nn.Module, pictures: npt.NDArray[np.uint8], device: torch.device
) -> npt.NDArray[np.float32]:
    """Return the lowest and highest number that goes into each convolution.

    Nothing is cut off. Ends with the smallest mean squared error would be closer, but the worst image
    counts, and cutting off hurts that (measured on 253 slices, from-scratch network: the confidence of
    the worst moves by 0.026 with such ends, by 0.019 with these).
    """
    layers = convolutions(network)
    ends = dict.fromkeys(layers, (0.0, 0.0))  # 0 is always among them: padding is made of it

    def widen(name: str, values: Tensor) -> None:
        low, high = ends[name]
        ends[name] = min(low, float(values.min())), max(high, float(values.max()))

    with _watching(layers, widen):
        _logits(network, pictures, device)
    return np.array(list(ends.values()), dtype=np.float32).reshape(-1, 2)


def _moves(
    network: nn.Module,
    ranges: npt.NDArray[np.float32],
    pictures: npt.NDArray[np.uint8],
    device: torch.device,
) -> npt.NDArray[np.float32]:
    """Return the farthest that a logit moves, against the others, if one convolution alone is in int8."""
    exact = _logits(network, pictures, device)
    found = []
    for layer, (low, high) in zip(convolutions(network).values(), ranges.tolist(), strict=True):
        with _in_int8(layer, low, high):
            moved = _logits(network, pictures, device) - exact
        found.append(float((moved.max(dim=1).values - moved.min(dim=1).values).max()))
    return np.array(found, dtype=np.float32)


@contextmanager
def _in_int8(layer: nn.Conv2d, low: float, high: float) -> Iterator[None]:
    """Let a convolution compute with inputs and weights that 8 bits can hold.

    A norm that follows scales each output, which changes nothing about its rounded weights.
    """
    step = max(high - low, 1e-12) / 255
    zero = round(-low / step)

    def rounded(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(inputs[0], step, zero, 0, 255)

    weight = layer.weight.data
    steps = weight.abs().flatten(1).max(dim=1).values.clamp(min=1e-12).view(-1, 1, 1, 1) / 127
    hook = layer.register_forward_pre_hook(rounded)
    layer.weight.data = (weight / steps).round() * steps
    try:
        yield
    finally:
        layer.weight.data = weight
        hook.remove()


@contextmanager
def _watching(layers: Mapping[str, nn.Module], look: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Show `look` what goes into each layer."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: look(name, inputs[0])

    placed = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for one in placed:
            one.remove()


@torch.inference_mode()
def _logits(network: nn.Module, pictures: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    batches = [
        torch.from_numpy(np.array(pictures[start : start + _BATCH]))[:, None].to(device)
        for start in range(0, len(pictures), _BATCH)
    ]
    return torch.cat([network(batch)[0] for batch in batches])


def _evenly(pictures: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
    """Return so many of the pictures, evenly spread: they are sorted by source and class."""
    places = np.unique(np.linspace(0, len(pictures) - 1, count).astype(int))
    return np.asarray(pictures[places])
