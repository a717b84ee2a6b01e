"""Cost of a network: parameters and floating-point operations."""

from __future__ import annotations

import torch
from torch import nn


def parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def gflops(network: nn.Module, image_size: int) -> float:
    """Return the cost of one picture in GFLOP, a multiplication and an addition counted as two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 1, image_size, image_size, dtype=torch.uint8))
    return float(counter.get_total_flops()) / 1e9
