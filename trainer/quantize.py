"""Measures what int8 engines need to know, for a weights file that was made without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from config.errors import DataError
from trainer.data import find_images, load_dataset
from trainer.networks import load
from trainer.ranges import MOVES, RANGES, convolutions, measure_ranges
from trainer.weights import read_weights, write_weights
from trainer.weights_file import check_new_file

# With fewer, the next image's numbers may lie outside of all that was seen.
_FEWEST = 20


def quantize(
    weights_path: Path,
    roots: Sequence[Path],
    output: Path,
    command: str,
    cache: Path,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Write a copy of a weights file with the ranges that its convolutions' inputs have on images.

    Network and decision stay as they are, and so do fp32 and bf16 engines. Classes play no part. Returns
    the new file and, for each convolution, its range and how far it alone in int8 moves the logits.
    """
    check_new_file(output)
    weights = read_weights(weights_path)
    spec = weights.spec
    dataset = load_dataset(find_images(roots, {}), spec.preprocessing, cache, progress=progress)
    if len(dataset) < _FEWEST:
        raise DataError(f"there are only {len(dataset)} images", hint=f"give {_FEWEST}, better hundreds")
    network = load(weights)
    measured = measure_ranges(network, dataset.pictures, torch.device("cpu"))
    made = replace(spec.provenance, command=f"{spec.provenance.command}\n{command}".strip())
    digest = write_weights(output, replace(spec, provenance=made), weights.tensors | measured, weights.seen)
    layers = zip(convolutions(network), measured[RANGES].tolist(), measured[MOVES].tolist(), strict=True)
    return {
        "weights": {"file": output.name, "sha256": digest},
        "convolutions": [
            {"name": name, "low": low, "high": high, "moves_logits": moves}
            for name, (low, high), moves in layers
        ],
    }


def quantization_text(report: dict[str, Any]) -> str:
    """Return the convolutions that mind int8 most, one a line."""
    layers = sorted(report["convolutions"], key=lambda layer: -layer["moves_logits"])
    lines = [f"{len(layers)} convolutions; alone in int8, these move the logits most:"]
    lines += [
        f"{layer['name']:<32} {layer['moves_logits']:.4f}, inputs {layer['low']:.2f} to {layer['high']:.2f}"
        for layer in layers[:5]
    ]
    return "\n".join(lines)
