"""Share: how many of how many, with its 95 % interval, and whether a figure told elsewhere lies within."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.975)


class Beside(StrEnum):
    """Where a figure lies beside a measured share."""

    BELOW = "below"
    WITHIN = "within"  # the interval: the two do not contradict each other
    ABOVE = "above"


@dataclass(frozen=True, slots=True)
class Share:
    """`k` of `n`, with the ends of its 95 % Wilson score interval, 0..1."""

    k: int
    n: int  # at least 1
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself, 0..1."""
        return self.k / self.n

    def place_of(self, told: float) -> Beside:
        """Return where a figure such as a model card's lies beside the interval."""
        if told < self.low:
            return Beside.BELOW
        return Beside.ABOVE if told > self.high else Beside.WITHIN


def share(k: int, n: int) -> Share | None:
    """Return `k` of `n` with its 95 % Wilson score interval (Wilson 1927); None of nothing."""
    if n == 0:
        return None
    middle = (k + _Z**2 / 2) / (n + _Z**2)
    half = _Z / (n + _Z**2) * math.sqrt(k * (n - k) / n + _Z**2 / 4)
    # At the ends the formula is exact, its rounding is not.
    low, high = middle - half if k else 0.0, middle + half if k < n else 1.0
    return Share(k, n, low, high)
