"""How far exported networks' answers are from the network's own, on real images.

    python -m tests.benchmark.exported [--count 1000] [--json FILE]

The shipped model, the network that is trained from scratch by default and torchvision's MobileNetV3 small,
the latter two with drawn weights, written as ONNX and for OpenVINO. Images are those of ../shared/data,
spread over all folders, where there are some, else drawn heads. Figures are largest differences as shares of
each output's largest value (or of 1).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.conftest import SHARED
from trainer.export.agreement import TOLERANCE
from trainer.export.export import export
from trainer.images.phantom import phantom
from trainer.model.identity import default_weights
from trainer.model.spec import ModelSpec, Preprocessing
from trainer.model.weights import Weights, read_weights, write_weights


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return 1 if anything differs by more than is allowed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.exported")
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bt-exported-") as name:
        told = measured(Path(name), images(Path(name), options.count))
    print(json.dumps(told, indent=1))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return int(any(one["worst"] > TOLERANCE or one["labels"] for one in told["networks"].values()))


def images(folder: Path, count: int) -> list[Path]:
    """Return `count` image files."""
    found = sorted((SHARED / "data").rglob("*.jp*g"))
    if found:
        return found[:: max(1, len(found) // count)][:count]
    drawn = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(drawn):
        phantom(number, lesion=number % 2 == 0, label=False).save(path)
    return drawn


def measured(folder: Path, paths: list[Path]) -> dict[str, Any]:
    """Return how far each network's exported files are from it."""
    networks: dict[str, Any] = {}
    for weights in (
        read_weights(default_weights()),
        _made(folder, "cnn", 128),
        _made(folder, "mobilenet_v3_small", 96),
    ):
        name = weights.spec.architecture
        made = export(weights, folder / f"{name}.onnx", folder / f"{name}.xml", paths)
        for path, agreement in made:
            program = "onnxruntime" if path.suffix == ".onnx" else "openvino"
            networks[f"{name}, {program}"] = {**asdict(agreement), "worst": agreement.worst}
    source = "drawn" if paths[0].is_relative_to(folder) else "real"
    return {"images": len(paths), "source": source, "cores": os.cpu_count(), "networks": networks}


def _made(folder: Path, architecture: str, side: int) -> Weights:
    """Return a network with drawn weights."""
    import torch

    from trainer.networks.loading import tensors_of
    from trainer.networks.registry import build

    torch.manual_seed(26)
    preprocessing = Preprocessing(image_size=side)
    network = build(architecture, 5, None, preprocessing)
    spec = ModelSpec("measured", "1", architecture, tuple("abcde"), preprocessing=preprocessing)
    write_weights(folder / f"{architecture}.safetensors", spec, tensors_of(network))
    return read_weights(folder / f"{architecture}.safetensors")


if __name__ == "__main__":
    sys.exit(main())
