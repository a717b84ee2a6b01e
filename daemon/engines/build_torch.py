"""Finds the precision that torch computes a weights file in on a GPU: the fastest that agrees with float32.

    python -m daemon.engines.build_torch WEIGHTS FOLDER PRECISION DEVICE

Runs in a process of its own, once; what it found lies in the folder afterwards.
"""

from __future__ import annotations

import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch

from config.errors import BtError, UsageError
from daemon.engines.base import EngineOutput
from daemon.engines.cache import write_manifest
from daemon.engines.manifest import PreparedEngine
from daemon.engines.parity import disagreement, drawn_heads, measured_slack
from daemon.engines.reference_check import check_reference
from daemon.engines.torch_engine import TorchEngine
from trainer.images.arrays import Grey
from trainer.model.weights import Weights, read_spec, read_weights
from trainer.networks.inference import in_batches

_TIMED_RUNS = 5


def main(arguments: list[str]) -> int:
    """Write what was found; print one line and return an exit code if no precision will do."""
    weights, folder, precision, device = Path(arguments[0]), Path(arguments[1]), arguments[2], arguments[3]
    try:
        prepared = choose(weights, precision, device)
    except BtError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, prepared, read_spec(weights))
    return 0


def choose(weights: Path, precision: str, device: str) -> PreparedEngine:
    """Return the engine of a precision (fp32, bf16, auto) on a device ("cuda:N"), compared with the CPU.

    Raises UsageError if what it says there is not what the network says.
    """
    torch.empty(1, device=device)  # a device that cannot be used fails now, not after the CPU's part
    read = read_weights(weights)
    probes = drawn_heads(read.spec)
    exact = PreparedEngine("torch", "cpu", "fp32", str(weights), read.sha256, "", "")
    engine = TorchEngine(exact)
    compared = check_reference(read, engine)
    reference = _reference(engine, probes)
    speeds: dict[str, float] = {}  # images/s of those that agree
    refused: list[str] = []
    for candidate in ("bf16", "fp32") if precision == "auto" else (precision,):
        found = _compared(replace(exact, device=device, precision=candidate), probes, reference, read)
        if isinstance(found, str):
            refused.append(f"{candidate} refused: {found}")
        else:
            speeds[candidate] = found
    if not speeds:
        raise UsageError(
            f"no engine of precision {precision} agrees with the reference ({'; '.join(refused)})",
            hint="use --precision fp32 or auto, or --device cpu",
        )
    told = ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items())
    why = "; ".join([f"fastest that agrees with fp32 on the CPU, images/s: {told}", *refused, compared])
    return replace(exact, device=device, precision=max(speeds, key=lambda one: speeds[one]), why=why)


def _reference(engine: TorchEngine, probes: Grey) -> EngineOutput:
    said = [engine.run(batch) for batch in in_batches(probes)]
    return EngineOutput(
        *(np.concatenate([getattr(one, field.name) for one in said]) for field in fields(EngineOutput))
    )


def _compared(
    prepared: PreparedEngine, probes: Grey, reference: EngineOutput, weights: Weights
) -> float | str:
    """Return an engine's images/s, or in words how it differs from the reference."""
    engine = TorchEngine(prepared)
    said = engine.run(probes)
    slack = measured_slack(
        (said.logits, said.features), (reference.logits, reference.features), weights.spec, weights.tensors
    )
    difference = disagreement(slack, weights.spec)
    if difference:
        return difference
    best = float("inf")
    for _ in range(_TIMED_RUNS):
        began = time.perf_counter()
        engine.run(probes)
        best = min(best, time.perf_counter() - began)
    return len(probes) / best


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
