"""Cost of a network: parameters and floating-point operations."""

from __future__ import annotations

import time

import torch
from torch import nn

from trainer.networks.classifier import blank_pictures

_BATCH = 8
_SECONDS = 0.5


def parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def gflops(network: nn.Module, image_size: int) -> float:
    """Return the cost of one picture in GFLOP, a multiplication and an addition counted as two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(blank_pictures(network, 1, image_size))
    return float(counter.get_total_flops()) / 1e9


@torch.no_grad()
def images_per_second(network: nn.Module, image_size: int) -> float:
    """Return how many images a network takes per second on this processor (eager, batches of eight)."""
    batch = blank_pictures(network, _BATCH, image_size)
    network(batch)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < _SECONDS:
        network(batch)
        done += _BATCH
    return done / (time.perf_counter() - began)
