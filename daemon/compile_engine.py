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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from config.errors import BtError, UsageError
from daemon.candidates import Candidate, Workshop, in_bfloat16, in_float32, in_int8
from daemon.engine import Engine, EngineOutput, PreparedEngine, open_engine, write_manifest
from daemon.engine_openvino import MODEL, openvino
from daemon.phantom import phantom
from daemon.quantise import Quantised
from trainer.judgement import probabilities
from trainer.preprocess import preprocess
from trainer.spec import ModelSpec
from trainer.weights import Tensors, Weights, read_weights

if TYPE_CHECKING:
    from torch import nn

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

    `precision` is fp32, bf16, int8, or auto: the fastest one that agrees with the fp32 reference.
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
        layers = _quantised_layers(network, weights.tensors)
        prepared = _choose(weights, layers, workshop, precision, probes, reference)
        _tidy(workshop, prepared)
        open_engine(prepared).run(probes[:1])
        write_manifest(workshop, prepared)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(workshop, folder)
    except BaseException:
        shutil.rmtree(workshop, ignore_errors=True)
        raise
    return replace(prepared, folder=str(folder))


def _tidy(folder: Path, prepared: PreparedEngine) -> None:
    """Remove what was tried and not chosen: compiled forms and parts."""
    shutil.rmtree(folder / "compiled", ignore_errors=True)
    needed = {Path(name).stem for name in prepared.parts}
    for path in folder.glob("model.*"):
        if path.stem not in needed:
            path.unlink()


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
    weights: Weights,
    layers: Sequence[Quantised],
    folder: Path,
    precision: str,
    probes: npt.NDArray[np.uint8],
    reference: EngineOutput,
) -> PreparedEngine:
    """Return the fastest engine among the wanted precisions that agrees with the reference."""
    blank = PreparedEngine("openvino", "cpu", "", str(weights.path), weights.sha256, str(folder), "")
    workshop = Workshop(blank, lambda engine: disagreement(engine.run(probes), reference, weights.spec))
    agreeing: list[Candidate] = []
    told: list[str] = []
    for wanted in _wanted(precision, layers):
        made = {"int8": lambda: in_int8(workshop, layers), "bf16": lambda: in_bfloat16(workshop)}
        found, words = made.get(wanted, lambda: in_float32(workshop))()
        agreeing += found
        told += words
    if not agreeing:
        raise UsageError(
            f"no engine of precision {precision} agrees with the reference ({'; '.join(told)})",
            hint="use --precision fp32 or auto",
        )
    timed = [(_seconds_per_image(one.engine, probes), one) for one in agreeing]
    speeds = ", ".join(f"{one.label} {1 / took:,.0f}" for took, one in timed)
    why = "; ".join([f"fastest that agrees with fp32, images/s per core: {speeds}", *told])
    best = min(timed, key=lambda pair: pair[0])[1]
    return replace(best.prepared, why=why)


def _wanted(precision: str, layers: Sequence[Quantised]) -> tuple[str, ...]:
    if precision == "int8" and not layers:
        raise UsageError(
            "the weights file has no ranges to make an int8 engine with",
            hint="add them with bt-train quantize, or use --precision auto",
        )
    if precision != "auto":
        return (precision,)
    return ("int8", "bf16", "fp32") if layers else ("bf16", "fp32")


def _quantised_layers(network: nn.Module, tensors: Tensors) -> list[Quantised]:
    """Return the convolutions that can be in int8, the most sensitive first; none without ranges."""
    from trainer.ranges import MOVES, RANGES, convolutions

    found = list(convolutions(network).values())
    ranges, moves = tensors.get(RANGES), tensors.get(MOVES)
    if ranges is None or moves is None or ranges.shape != (len(found), 2) or moves.shape != (len(found),):
        return []
    order = np.argsort(-moves.astype(np.float32), kind="stable")
    return [
        Quantised(found[place].weight.detach().numpy(), float(ranges[place, 0]), float(ranges[place, 1]))
        for place in order.tolist()
        if ranges[place, 0] <= 0 < ranges[place, 1]  # also refuses NaN
    ]


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
