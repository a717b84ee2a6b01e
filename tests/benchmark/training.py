"""Training images per second: this trainer beside the loop of torchvision's reference scripts.

    python -m tests.benchmark.training [--arch cnn] [--side 256] [--steps 30] [--json FILE]

The same network, batch size, optimiser and kinds of change to the pictures. The reference decodes and
changes each image on its own, every time, in two DataLoader workers (as
https://github.com/pytorch/vision/tree/main/references/classification does); this trainer decodes once
and changes whole batches. Both run twice, in turns, in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmark.files import fill
from tests.conftest import REPOSITORY, SHARED
from trainer.images.phantom import phantom

_IMAGES = 1500
_BATCH = 64


def main() -> int:
    """Measure both and print images per second and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="cnn")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=["ours", "reference"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measure = _ours if options.only == "ours" else _reference
        print(measure(options.folder, options.arch, options.side, options.steps))
        return 0
    with tempfile.TemporaryDirectory(prefix="bt-training-") as name:
        told = _compare(Path(name), options)
    print(json.dumps(told, indent=1))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


def _compare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    data = SHARED / "data"
    for place, name in enumerate(("no", "yes")):
        if data.is_dir():
            fill(folder / "data" / name, _IMAGES // 2, 224, data)
        else:
            (folder / "data" / name).mkdir(parents=True)
            for number in range(_IMAGES // 2):
                phantom(number + 5000 * place, lesion=bool(place)).save(
                    folder / "data" / name / f"{number}.jpg"
                )
    speeds: dict[str, list[float]] = {"ours": [], "reference": []}
    for _ in range(2):
        for name, found in speeds.items():
            command = [
                sys.executable, "-m", "tests.benchmark.training", "--only", name, "--folder", str(folder),
                "--arch", options.arch, "--side", str(options.side), "--steps", str(options.steps),
            ]  # fmt: skip
            done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
            found.append(float(done.stdout.split()[-1]))
    ours, reference = median(speeds["ours"]), median(speeds["reference"])
    return {
        "architecture": options.arch, "side": options.side, "batch": _BATCH, "steps": options.steps,
        "images_per_second": speeds, "ratio": round(ours / reference, 2),
    }  # fmt: skip


def _ours(folder: Path, architecture: str, side: int, steps: int) -> float:
    import numpy as np
    import torch

    from trainer.data.dataset import find_images, load_dataset
    from trainer.data.training_set import TrainingSet
    from trainer.model.spec import Preprocessing
    from trainer.networks.registry import build
    from trainer.training.config import Epoch, Plan, TrainingStart
    from trainer.training.loop import fit

    class Stopwatch:
        """Begins after the first steps, which allocate and choose kernels, in both contenders."""

        began = ended = 0.0

        def started(self, start: TrainingStart) -> None:
            del start

        def stepped(self, epoch: int, step: int, steps: int, loss: float, accuracy: float) -> None:
            del epoch, loss, accuracy
            if step == _WARM:
                self.began = time.perf_counter()
            if step == steps:
                self.ended = time.perf_counter()

        def finished_epoch(self, epoch: Epoch, *, best: bool) -> None:
            del epoch, best

    dataset = load_dataset(find_images([folder / "data"]), Preprocessing(image_size=side), folder / "cache")
    everything = np.arange(len(dataset))
    data = TrainingSet(dataset.pictures, dataset.labels, dataset.sources, everything[64:], everything[:64])
    watch = Stopwatch()
    plan = Plan(epochs=1, batch=_BATCH, samples_per_epoch=(steps + _WARM) * _BATCH)
    fit(build(architecture, 2), data, plan, torch.device("cpu"), watch)
    return round(steps * _BATCH / (watch.ended - watch.began), 1)


def _reference(folder: Path, architecture: str, side: int, steps: int) -> float:
    import torch
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    from trainer.networks.registry import build

    change = transforms.Compose(
        [
            transforms.Grayscale(),
            transforms.RandomResizedCrop(side, scale=(0.7, 1.0), ratio=(0.9, 1.1)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(20),
            transforms.ColorJitter(brightness=0.25, contrast=0.25),
            transforms.PILToTensor(),
            transforms.RandomErasing(0.45, scale=(0.004, 0.06)),
        ]
    )
    images = datasets.ImageFolder(str(folder / "data"), change)
    loader = DataLoader(images, _BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True)
    network = build(architecture, 2)
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    began, done = 0.0, 0
    while done < steps + _WARM:
        for pictures, labels in loader:
            loss = torch.nn.functional.cross_entropy(network(pictures)[0], labels, label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            done += 1
            if done == _WARM:
                began = time.perf_counter()
            if done == steps + _WARM:
                break
    return round(steps * _BATCH / (time.perf_counter() - began), 1)


_WARM = 4

if __name__ == "__main__":
    sys.exit(main())
