"""Makes a compiled engine from a weights file: convert, compile, check against the reference, choose.

    python -m daemon.compile_engine WEIGHTS FOLDER PRECISION

Runs in a process of its own. The folder appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from config.errors import BtError, UsageError
from daemon.engine import Engine, EngineOutput, PreparedEngine, open_engine, write_manifest
from daemon.engine_openvino import BACK, FRONT, MODEL, OpenVinoEngine, openvino
from daemon.mixed_precision import cuts, divided
from daemon.phantom import phantom
from trainer.judgement import probabilities
from trainer.preprocess import preprocess
from trainer.spec import ModelSpec
from trainer.weights import Weights, read_weights

# What a lower precision may change: nothing about a label farther than this from the threshold, and
# no confidence by more than this.
TOLERANCE = 0.02
# Measured: where drawn heads move by 0.011 and 0.007, the worst of 2,797 slices moves by 0.031 and 0.015.
_ON_DRAWN = 0.35
_PROBES = 256
_TIMED_BATCH = 8
_TIMED_RUNS = 6


def main(arguments: list[str]) -> int:
    """Make the engine; print one line and return an exit code if that cannot be."""
    weights, folder, precision = Path(arguments[0]), Path(arguments[1]), arguments[2]
    try:
        make_engine(weights, folder, precision)
    except BtError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def make_engine(weights_path: Path, folder: Path, precision: str) -> PreparedEngine:
    """Write the engine of a weights file into `folder` and return it.

    `precision` is fp32, bf16, or auto: the fastest one that agrees with the fp32 reference.
    """
    import torch

    from trainer.networks import load

    weights = read_weights(weights_path)
    network = load(weights)
    probes = probe_batch(weights.spec)
    with torch.inference_mode():
        said = network(torch.from_numpy(probes[:, None]))
    reference = EngineOutput(*(value.numpy() for value in said))
    workshop = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        _convert(network, weights.spec.preprocessing.image_size, workshop)
        prepared = _choose(weights, workshop, precision, probes, reference)
        # Whatever was tried has left its compiled form there; the chosen one's is all that is needed.
        shutil.rmtree(workshop / "compiled", ignore_errors=True)
        open_engine(prepared).run(probes[:1])
        write_manifest(workshop, prepared)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(workshop, folder)
    except BaseException:
        shutil.rmtree(workshop, ignore_errors=True)
        raise
    return replace(prepared, folder=str(folder))


def probe_batch(spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """Return the network inputs (n, S, S) that engines are compared on: drawn heads and pure noise."""
    noise = np.random.default_rng(0)
    size = spec.preprocessing.image_size
    heads = [
        preprocess(phantom(number, lesion=number % 2 == 0, label=number % 3 == 0), spec.preprocessing)
        for number in range(_PROBES - 4)
    ]
    return np.stack([*heads, *noise.integers(0, 256, (4, size, size), dtype=np.uint8)])


def disagreement(said: EngineOutput, reference: EngineOutput, spec: ModelSpec) -> str:
    """Return in words how an engine differs from the reference beyond the tolerance, '' if it does not."""
    ours = probabilities(said.logits, spec.decision.temperature)
    theirs = probabilities(reference.logits, spec.decision.temperature)
    # Logits count as if each picture stood in the middle, where a confidence moves most: the probes are
    # drawn and mostly certain, users' images are not.
    moved = (said.logits - reference.logits) / spec.decision.temperature
    worst = float((moved.max(axis=1) - moved.min(axis=1)).max()) / 4
    if not worst <= TOLERANCE * _ON_DRAWN:  # also refuses NaN
        return f"confidence differs by {worst:.4f}"
    positive = spec.decision.positive
    if positive is None:
        changed = ours.argmax(axis=1) != theirs.argmax(axis=1)
    else:
        place, threshold = spec.classes.index(positive), spec.decision.threshold
        clear = np.abs(theirs[:, place] - threshold) > TOLERANCE
        changed = clear & ((ours[:, place] >= threshold) != (theirs[:, place] >= threshold))
    return f"{int(changed.sum())} labels differ" if changed.any() else ""


def _convert(network: object, size: int, folder: Path) -> None:
    import torch

    example = torch.zeros(2, 1, size, size, dtype=torch.uint8)
    model = openvino.convert_model(network, example_input=example, input=[([-1, 1, size, size], np.uint8)])
    # Uncompressed: the fp32 engine must be the fp32 network.
    openvino.save_model(model, str(folder / MODEL), compress_to_fp16=False)


def _choose(
    weights: Weights, folder: Path, precision: str, probes: npt.NDArray[np.uint8], reference: EngineOutput
) -> PreparedEngine:
    """Return the fastest engine among the wanted precisions that agrees with the reference."""
    tried: list[tuple[float, PreparedEngine]] = []
    told: list[str] = []
    for candidate in ("bf16", "fp32") if precision == "auto" else (precision,):
        prepared = PreparedEngine(
            "openvino", "cpu", candidate, str(weights.path), weights.sha256, str(folder), ""
        )
        engine = OpenVinoEngine(prepared)
        difference = disagreement(engine.run(probes), reference, weights.spec)
        if difference and candidate != "fp32":
            engine, left = _with_exact_beginning(prepared, probes, reference, weights.spec)
            told.append(f"{candidate} from the first layer on: {difference}")
            difference = left
        if difference:
            told.append(f"{candidate} refused: {difference}")
            continue
        tried.append((_seconds_per_image(engine, probes), prepared))
    if not tried:
        raise UsageError(
            f"no engine of precision {precision} agrees with the reference ({'; '.join(told)})",
            hint="use --precision fp32 or auto",
        )
    _, best = min(tried, key=lambda pair: pair[0])
    speeds = ", ".join(f"{one.precision} {1 / took:,.0f}" for took, one in tried)
    return replace(
        best, why="; ".join([f"fastest that agrees with fp32, images/s per core: {speeds}", *told])
    )


def _with_exact_beginning(
    prepared: PreparedEngine, probes: npt.NDArray[np.uint8], reference: EngineOutput, spec: ModelSpec
) -> tuple[OpenVinoEngine, str]:
    """Keep as much of the beginning in float32 as it takes to agree; return engine and what still differs.

    By bisection: the more of it is exact, the smaller the difference, but for small disorder.
    """
    whole = openvino.Core().read_model(str(Path(prepared.folder) / MODEL))
    places = cuts(whole)
    low, high = 0, len(places)  # the first that agrees lies in low..high; high: none does
    engine, difference = OpenVinoEngine(prepared), "it cannot be divided"
    while low < high:
        middle = (low + high) // 2
        if disagreement(_divided_at(whole, places[middle], prepared).run(probes), reference, spec):
            low = middle + 1
        else:
            high = middle
    if places:
        engine = _divided_at(whole, places[min(low, len(places) - 1)], prepared)
        difference = disagreement(engine.run(probes), reference, spec)
    return engine, difference


def _divided_at(whole: Any, cut: str, prepared: PreparedEngine) -> OpenVinoEngine:
    """Write the two parts of a network into the engine's folder and open them."""
    for part, name in zip(divided(whole, cut), (FRONT, BACK), strict=True):
        openvino.save_model(part, str(Path(prepared.folder) / name), compress_to_fp16=False)
    return OpenVinoEngine(prepared)


def _seconds_per_image(engine: Engine, probes: npt.NDArray[np.uint8]) -> float:
    batch = probes[:_TIMED_BATCH]
    best = float("inf")
    for _ in range(_TIMED_RUNS):
        began = time.perf_counter()
        engine.run(batch)
        best = min(best, time.perf_counter() - began)
    return best / len(batch)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
