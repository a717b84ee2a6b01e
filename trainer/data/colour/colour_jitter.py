"""Changes to colour training pictures that must not change the answer: whole batches, on tensors.

What a photograph's light, camera and framing make of the same thing: mirrored, turned, nearer, brighter,
of another white balance, coarser, noisy, partly covered. Hue is hardly touched: it may be what a class means.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# ITU-R BT.601's luma, as `PIL.Image.convert("L")` has it.
_LUMA = (0.299, 0.587, 0.114)
_COVERED = 0.25  # share of the pictures that lose a rectangle (Zhong et al. 2020, "Random Erasing")


def uniform(generator: torch.Generator, count: int, low: float, high: float) -> Tensor:
    """Return random numbers (count,) between `low` and `high`."""
    return torch.rand(count, generator=generator) * (high - low) + low


def jittered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and white balance of pictures (batch, 3, S, S) in 0..1."""
    count = len(x)

    def factors(low: float, high: float, channels: int = 1) -> Tensor:
        return uniform(generator, count * channels, low, high).view(count, channels, 1, 1)

    x = x * factors(0.75, 1.3) * factors(0.93, 1.07, 3)
    grey = _grey(x)
    x = grey + (x - grey) * factors(0.7, 1.3)
    middle = grey.mean(dim=(2, 3), keepdim=True)
    return (middle + (x - middle) * factors(0.75, 1.3)).clamp(0, 1)


def covered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Cover a rectangle of some pictures with one colour."""
    side = x.shape[-1]
    for number in range(len(x)):
        chance = torch.rand(8, generator=generator).tolist()
        if chance[0] < _COVERED:
            height, width = int(side * (0.1 + 0.25 * chance[1])), int(side * (0.1 + 0.25 * chance[2]))
            top, left = int((side - height) * chance[3]), int((side - width) * chance[4])
            x[number, :, top : top + height, left : left + width] = torch.tensor(chance[5:]).view(3, 1, 1)
    return x


def blurred(x: Tensor, generator: torch.Generator) -> Tensor:
    """Take a fifth of the batch out of focus, by 3 pixels."""
    chosen = torch.rand(len(x), generator=generator) < 0.2
    if chosen.any():
        x[chosen] = functional.avg_pool2d(x[chosen], 3, 1, 1, count_include_pad=False)
    return x


def _grey(x: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    return (x * weights).sum(dim=1, keepdim=True)
