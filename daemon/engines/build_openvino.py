"""Build an OpenVINO engine from a weights file: convert, compile, check against the reference, choose.

    python -m daemon.engines.build_openvino WEIGHTS FOLDER PRECISION

Runs in a process of its own. The engine is there when its manifest is, which is written last of all.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from config.errors import BtError, UsageError, WeightsError
from daemon.engines.base import EngineOutput
from daemon.engines.cache import making, write_manifest
from daemon.engines.candidates import Candidate, EngineBuilder, in_bfloat16, in_float32
from daemon.engines.factory import open_engine
from daemon.engines.manifest import PreparedEngine
from daemon.engines.openvino_engine import MODEL, openvino
from daemon.engines.openvino_import import converter
from daemon.engines.parity import in_batches, probe_batch
from daemon.process import return_free_memory
from trainer.images.arrays import Grey
from trainer.model.weights import Weights, read_weights

if TYPE_CHECKING:
    from torch import nn


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
    from trainer.networks.loading import load

    weights = read_weights(weights_path)
    network = load(weights)
    probes = probe_batch(weights.spec)
    reference = _reference(network, probes)
    workshop = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{making(folder)}-"))
    try:
        _convert(network, weights.spec.preprocessing.image_size, workshop)
        # What tracing leaves behind would stand beside what compiling needs.
        del network
        gc.collect()
        return_free_memory()
        prepared = _choose(weights, workshop, precision, probes, reference)
        _tidy(workshop, prepared)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(workshop, folder)
    except BaseException:
        shutil.rmtree(workshop, ignore_errors=True)
        raise
    prepared = replace(prepared, folder=str(folder))
    # Under its last name: the compiled forms that this leaves are found again by that name only, and what
    # opens the engine later must find them, or all workers would compile and write them at the same time.
    open_engine(prepared).run(probes[:1])
    write_manifest(folder, prepared, weights.spec)
    return prepared


def _reference(network: nn.Module, probes: Grey) -> EngineOutput:
    import torch

    with torch.inference_mode():
        said = [network(torch.from_numpy(batch[:, None])) for batch in in_batches(probes)]
    reference = EngineOutput(*(torch.cat(values).numpy() for values in zip(*said, strict=True)))
    if not (np.isfinite(reference.logits).all() and np.isfinite(reference.features).all()):
        raise WeightsError("what the network computes is not finite", hint="train it again")
    return reference


def _tidy(folder: Path, prepared: PreparedEngine) -> None:
    """Remove what was tried and not chosen: compiled forms and parts."""
    shutil.rmtree(folder / "compiled", ignore_errors=True)
    needed = {Path(one.file).stem for one in (prepared.network, prepared.exact) if one is not None}
    for path in folder.glob("model.*"):
        if path.stem not in needed:
            path.unlink()


def _convert(network: object, size: int, folder: Path) -> None:
    import torch

    example = torch.zeros(2, 1, size, size, dtype=torch.uint8)
    convert = converter()
    model = convert(network, example_input=example, input=[([-1, 1, size, size], np.uint8)])
    # Uncompressed: the fp32 engine must be the fp32 network.
    openvino.save_model(model, str(folder / MODEL), compress_to_fp16=False)


def _choose(
    weights: Weights,
    folder: Path,
    precision: str,
    probes: Grey,
    reference: EngineOutput,
) -> PreparedEngine:
    """Return the fastest engine among the wanted precisions that agrees with the reference."""
    blank = PreparedEngine("openvino", "cpu", "", str(weights.path), weights.sha256, str(folder), "")
    workshop = EngineBuilder(blank, weights.spec, weights.tensors, probes, reference)
    exact = in_float32(workshop)
    agreeing: list[Candidate] = []
    told: list[str] = []
    if exact.difference:
        told.append(f"fp32 refused: {exact.difference}")
    if not exact.difference and precision != "fp32":
        found, words = in_bfloat16(workshop, exact)
        agreeing += found
        told += words
    if not exact.difference and precision != "bf16":
        agreeing.append(exact)
    if not agreeing:
        raise UsageError(
            f"no engine of precision {precision} agrees with the reference ({'; '.join(told)})",
            hint="use --precision fp32 or auto",
        )
    speeds = ", ".join(f"{one.label} {1 / one.seconds:,.0f}" for one in agreeing)
    why = "; ".join([f"fastest that agrees with fp32, images/s per core: {speeds}", *told])
    best = min(agreeing, key=lambda one: one.seconds)
    return replace(best.prepared, why=why)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
