"""Build an OpenVINO engine from a weights file: compile, check against the reference, choose.

    python -m daemon.engines.build_openvino WEIGHTS FOLDER PRECISION

Runs in a process of its own. The engine is there when its manifest is, which is written last of all.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from config.errors import BtError, UsageError
from config.extras import install_hint, installed
from config.text import printable
from daemon.engines.cache import write_manifest
from daemon.engines.candidates import Candidate, EngineBuilder
from daemon.engines.factory import open_engine
from daemon.engines.manifest import PreparedEngine
from daemon.engines.openvino_engine import COMPILED, MODEL, openvino
from daemon.engines.openvino_graph import graph
from daemon.engines.reference_check import check_reference
from daemon.process import limit_memory
from trainer.model.layers import is_of_timm
from trainer.model.openvino_import import converter
from trainer.model.weights import Weights, read_weights

# What making the engine of a network that was not trained here may take: so much for each byte of its file,
# and for libraries and what the network computes with.
_FOREIGN_SHARE, _FOREIGN_BYTES = 8, 3 << 30


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

    `precision` is fp32, bf16, or auto: the fastest one that agrees with the fp32 reference. What it leaves
    was compiled in this very folder: compiled forms are found again by the path of their network only.
    """
    weights = read_weights(weights_path)
    if weights.spec.foreign is not None:  # whatever it makes OpenVINO allocate
        limit_memory(weights_path.stat().st_size * _FOREIGN_SHARE + _FOREIGN_BYTES)
    network = _network(weights)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        # Uncompressed: the fp32 engine must be the fp32 network.
        openvino.save_model(network, str(folder / MODEL), compress_to_fp16=False)
        del network
        prepared = _choose(weights, folder, precision)
        write_manifest(folder, prepared, weights.spec)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return prepared


def _network(weights: Weights) -> Any:
    """Return the network as OpenVINO has it: built from its tensors, or through torch for torchvision's."""
    built = graph(weights.spec, weights.tensors)
    if built is not None:
        return built
    _require_torch(weights)
    import torch

    from trainer.networks.loading import load

    side, channels = weights.spec.preprocessing.image_size, weights.spec.preprocessing.channels
    example = torch.zeros(2, channels, side, side, dtype=torch.uint8)
    return converter()(load(weights), example_input=example, input=[([-1, channels, side, side], np.uint8)])


def _require_torch(weights: Weights) -> None:
    if not (installed("torch") and installed("torchvision")):
        raise UsageError(
            f"a network of the kind {printable(weights.spec.architecture)} needs torchvision, which is not "
            "installed",
            hint=install_hint("train"),
        )
    if is_of_timm(weights.spec.architecture) and not installed("timm"):
        raise UsageError(
            f"the network {printable(weights.spec.architecture)} needs timm, which is not installed",
            hint=install_hint("timm"),
        )


def _choose(weights: Weights, folder: Path, precision: str) -> PreparedEngine:
    """Return the fastest engine among the wanted precisions that agrees with the reference."""
    blank = PreparedEngine("openvino", "cpu", "", str(weights.path), weights.sha256, str(folder), "")
    builder = EngineBuilder(blank, weights.spec, weights.tensors)
    exact = builder.tried("fp32")
    compared = check_reference(weights, open_engine(exact.prepared))
    agreeing, told = ([exact], []) if precision != "bf16" else ([], [])
    if precision != "fp32":
        tried, words = _in_bfloat16(builder, exact)
        agreeing += tried
        told += words
    if not agreeing:
        raise UsageError(
            f"no engine of precision {precision} agrees with the reference ({'; '.join(told)})",
            hint="use --precision fp32 or auto",
        )
    best = min(agreeing, key=lambda one: one.seconds)
    _forget_others(folder, best.prepared)
    speeds = ", ".join(f"{one.label} {1 / one.seconds:,.0f}" for one in agreeing)
    why = [f"fastest that agrees with fp32, images/s per core: {speeds}", *told, compared]
    return replace(best.prepared, why="; ".join(why))


def _in_bfloat16(builder: EngineBuilder, exact: Candidate) -> tuple[list[Candidate], list[str]]:
    """Return the engine in bfloat16 that agrees, and what there is to tell."""
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return [], ["this processor does not compute in bf16"]
    quick = builder.compared("bf16", exact)
    if not quick.difference:
        return [quick], []
    both = builder.cascade(quick, exact)
    return ([] if both.difference else [both]), [f"bf16 alone: {quick.difference}"]


def _forget_others(folder: Path, chosen: PreparedEngine) -> None:
    """Remove the compiled forms of what was tried and not chosen."""
    needed = 1 if chosen.exact is None else 2
    if len(list((folder / COMPILED).glob("*.blob"))) > needed:
        shutil.rmtree(folder / COMPILED)
        open_engine(chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
