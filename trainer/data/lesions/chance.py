"""Random numbers for batches of pictures: uniform, log-uniform and smooth noise, from one generator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Chance:
    """Numbers for each of `count` pictures, shaped (count, 1, 1, 1) to multiply them."""

    count: int
    source: torch.Generator

    def even(self, low: float, high: float) -> Tensor:
        """Return numbers that are as likely anywhere between the two."""
        return torch.rand(self.count, 1, 1, 1, generator=self.source) * (high - low) + low

    def of_any_size(self, low: float, high: float) -> Tensor:
        """Return numbers whose logarithms are as likely anywhere between those of the two."""
        return torch.exp(self.even(math.log(low), math.log(high)))

    def sign(self, minus: float | Tensor = 0.5) -> Tensor:
        """Return 1, and -1 as often as the share `minus` says, a number or (count, 1, 1, 1)."""
        return 1 - 2 * (self.even(0, 1) < minus).float()

    def field(self, side: int, knots: int) -> Tensor:
        """Return smooth noise (count, 1, side, side) of about unit size."""
        coarse = torch.randn(self.count, 1, knots, knots, generator=self.source)
        return functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)
