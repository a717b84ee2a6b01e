"""How far the engine that is picked here is from float32, and that from torch, on real slices.

    python -m tests.benchmark.agreement [--count 4000] [--side 224] [--json FILE]

Of the shipped model, on slices of ../shared/data where there are some, else on drawn heads: how many labels,
sides of the uncertain band and rejections differ, the largest difference of a confidence, and the
CPU-seconds an image takes with each. Where torch is installed: how many labels of the float32 engine are not
those of the network in torch, and the largest differences of its outputs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from config.extras import installed
from daemon.engines.base import Engine, EngineOutput
from daemon.engines.cache import prepare_engine
from daemon.engines.factory import open_engine
from tests.benchmark.files import fill
from tests.conftest import SHARED
from trainer.images.decode import decode
from trainer.images.picture import Limits
from trainer.model.identity import default_weights
from trainer.model.prediction import Prediction, distances, judge, probabilities
from trainer.model.preprocess import preprocess
from trainer.model.spec import Preprocessing
from trainer.model.weights import Weights, read_weights

_BATCH = 8


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.agreement")
    parser.add_argument("--count", type=int, default=4_000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bt-agreement-") as name:
        images = Path(name) / "images"
        data = SHARED / "data"
        print(fill(images, options.count, options.side, data if data.is_dir() else None))
        told = agreement(images, Path(name) / "cache")
    print(json.dumps(told))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


def agreement(images: Path, cache: Path) -> dict[str, Any]:
    """Return what the picked engine and float32 say of the images in a folder, compared."""
    weights = read_weights(default_weights())
    logger = logging.getLogger("benchmark")
    picked, spec = prepare_engine(weights.path, "cpu", "auto", cache, logger)
    exact, _ = prepare_engine(weights.path, "cpu", "fp32", cache, logger)
    pictures = _inputs(images, spec.preprocessing)
    shares, away, seconds = zip(
        *(_judged(open_engine(one), pictures, weights) for one in (picked, exact)), strict=True
    )
    decision = spec.decision
    assert decision.positive is not None
    place = spec.classes.index(decision.positive)
    cuts = {
        "labels": decision.threshold,
        "lower ends": decision.uncertain_low,
        "upper ends": decision.uncertain_high,
    }
    limit = np.inf if spec.out_of_distribution is None else spec.out_of_distribution.max_distance
    told: dict[str, Any] = {
        "images": len(pictures),
        "why": picked.why,
        "differ": {
            name: int(((shares[0][:, place] >= cut) != (shares[1][:, place] >= cut)).sum())
            for name, cut in cuts.items()
        }
        | {"rejections": int(((away[0] > limit) != (away[1] > limit)).sum())},
        "largest_difference_of_a_confidence": float(np.abs(shares[0] - shares[1]).max()),
        "cpu_seconds": {"picked": seconds[0], "fp32": seconds[1]},
    }
    if picked.exact is not None:
        quick, _, took = _judged(open_engine(replace(picked, exact=None, slack=None)), pictures, weights)
        told["again"] = float((quick != shares[0]).any(axis=1).mean())
        told["cpu_seconds"]["without what is computed again"] = took
    if installed("torch"):
        told["torch"] = _beside_torch(open_engine(exact), pictures, weights)
    return told


def _beside_torch(engine: Engine, pictures: npt.NDArray[np.uint8], weights: Weights) -> dict[str, float]:
    """Return how far a float32 engine is from the network in torch."""
    import torch

    from trainer.networks.loading import load

    network = load(weights)
    told: dict[str, float] = {"labels that differ": 0, "logits": 0.0, "features": 0.0, "maps": 0.0}
    for at in range(0, len(pictures), _BATCH):
        batch = pictures[at : at + _BATCH]
        ours = engine.run(batch)
        with torch.inference_mode():
            theirs = EngineOutput(*(one.numpy() for one in network(torch.from_numpy(batch[:, None]))))
        for name in ("logits", "features", "maps"):
            off = float(np.abs(getattr(ours, name) - getattr(theirs, name)).max())
            told[name] = max(told[name], off)
        told["labels that differ"] += sum(
            one.label != other.label
            for one, other in zip(*(_labelled(said, weights) for said in (ours, theirs)), strict=True)
        )
    return told


def _labelled(said: EngineOutput, weights: Weights) -> list[Prediction]:
    return judge(said.logits, said.features, weights.spec, weights.tensors)


def _inputs(images: Path, how: Preprocessing) -> npt.NDArray[np.uint8]:
    files = sorted(images.iterdir())
    return np.stack(
        [
            preprocess(decode(path.read_bytes(), Limits(), how.image_size).slices[0].image, how)
            for path in files
        ]
    )


def _judged(
    engine: Engine, pictures: npt.NDArray[np.uint8], weights: Weights
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], float]:
    """Return probabilities (n, classes), distances (n,), and CPU-seconds per image."""
    engine.run(pictures[:_BATCH])  # the first pass of a shape prepares it
    began = time.process_time()
    said = [engine.run(pictures[at : at + _BATCH]) for at in range(0, len(pictures), _BATCH)]
    seconds = (time.process_time() - began) / len(pictures)
    logits, features = (
        np.concatenate([getattr(one, name) for one in said]) for name in ("logits", "features")
    )
    away = np.zeros(len(pictures), dtype=np.float32)
    if weights.spec.out_of_distribution is not None:
        away = distances(features, weights.tensors)
    return probabilities(logits, weights.spec.decision.temperature), away, seconds


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
