"""Cost of a network: parameters and floating-point operations."""

from __future__ import annotations

import time

import torch
from torch import nn

_BATCH = 8
_SECONDS = 0.5


def parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def gflops(network: nn.Module, image_size: int) -> float:
    """Return the cost of one picture in GFLOP, a multiplication and an addition counted as two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 1, image_size, image_size, dtype=torch.uint8))
    return float(counter.get_total_flops()) / 1e9


@torch.no_grad()
def images_per_second(network: nn.Module, image_size: int) -> float:
    """Return how many images a network takes per second on this processor (eager, batches of eight)."""
    batch = torch.zeros(_BATCH, 1, image_size, image_size, dtype=torch.uint8)
    network(batch)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < _SECONDS:
        network(batch)
        done += _BATCH
    return done / (time.perf_counter() - began)
