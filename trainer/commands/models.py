"""`bt-train models`: every architecture, what it costs, how fast it is here."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from trainer.networks.cost import gflops, parameters
from trainer.networks.registry import ARCHITECTURES, build

_BATCH = 8
_SECONDS = 0.5


def model_list(image_size: int, *, measure: bool) -> Iterator[str]:
    """Yield a table of the architectures, line by line as they are measured (torch, float32, eager)."""
    speed = "  images/s here" if measure else ""
    yield f"{'name':<20} {'parameters':>11} {'GFLOP/image':>12}{speed}  what it is"
    for name, entry in ARCHITECTURES.items():
        network = build(name, 2).eval()
        rate = f"{_images_per_second(network, image_size):>15.0f}" if measure else ""
        cost = gflops(network, image_size)
        yield f"{name:<20} {parameters(network):>11,} {cost:>12.2f}{rate}  {entry.description}"


@torch.no_grad()
def _images_per_second(network: torch.nn.Module, image_size: int) -> float:
    batch = torch.zeros(_BATCH, 1, image_size, image_size, dtype=torch.uint8)
    network(batch)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < _SECONDS:
        network(batch)
        done += _BATCH
    return done / (time.perf_counter() - began)
