"""OpenVINO engine: one compiled network on one thread, for a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from config.errors import UsageError
from config.text import printable
from daemon.engines.base import EngineOutput
from daemon.engines.manifest import Compiled
from trainer.images.arrays import Floats, Grey, planes
from trainer.model.openvino_import import openvino_without_telemetry
from trainer.model.weights import Weights

openvino = openvino_without_telemetry()

MODEL = "model.xml"
COMPILED = "compiled"
_HINTS = {"fp32": "f32", "bf16": "bf16"}
# Batches are filled up to one of these sizes: every new shape costs some milliseconds the first time.
SIZES = (1, 2, 4, 8, 16)
_UNTIMED_BATCH = 4  # the quickest nearly everywhere


class OpenVinoEngine:
    """One compiled network on one thread."""

    def __init__(self, compiled: Any, batch: int) -> None:
        """Take an `openvino.CompiledModel`, and how many pictures it computes at once."""
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        # Of a network that was not trained here: some take one picture at a time only, none gives maps.
        self._most = 1 if compiled.input(0).partial_shape[0].is_static else batch
        self._outputs = len(compiled.outputs)

    def run(self, batch: Grey) -> EngineOutput:
        """Return what the network says of pictures (batch, S, S[, 3]) uint8."""
        # More at once than fits the processor's caches is slower, and takes memory.
        parts = [self._pass(batch[at : at + self._most]) for at in range(0, len(batch), self._most)]
        return EngineOutput(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def _pass(self, batch: Grey) -> tuple[Floats, Floats, Floats]:
        count = len(batch)
        size = next(size for size in SIZES if size >= count)
        if size > count:
            batch = np.concatenate((batch, np.zeros((size - count, *batch.shape[1:]), dtype=np.uint8)))
        self._request.infer([np.ascontiguousarray(planes(batch))], share_inputs=True)
        said = [
            # A copy: the request's own memory is overwritten by the next batch.
            np.array(self._request.get_output_tensor(number).data[:count], dtype=np.float32)
            for number in range(self._outputs)
        ]
        if len(said) == 1:
            nothing = np.zeros((count, 0), dtype=np.float32)
            return said[0], nothing, np.zeros((*said[0].shape, 0, 0), dtype=np.float32)
        return said[0], said[1], said[2]


def open_compiled(folder: Path, network: Compiled) -> OpenVinoEngine:
    """Return the engine of a network that lies in the folder, of what was compiled of it there before."""
    core = openvino.Core()
    core.set_property({"CACHE_DIR": str(folder / COMPILED)})
    compiled = core.compile_model(str(folder / network.file), "CPU", settings(network.precision))
    return OpenVinoEngine(compiled, network.batch)


def open_graph(weights: Weights) -> OpenVinoEngine:
    """Return the engine of a weights file in float32, compiled now and kept nowhere.

    Raises WeightsError if its tensors do not fit, UsageError if its architecture is torchvision's.
    """
    from daemon.engines.openvino_graph import graph

    network = graph(weights.spec, weights.tensors)
    if network is None:
        raise UsageError(f"there is no graph of the architecture {printable(weights.spec.architecture)}")
    compiled = openvino.Core().compile_model(network, "CPU", settings("fp32"))
    return OpenVinoEngine(compiled, _UNTIMED_BATCH)


def settings(precision: str) -> dict[str, Any]:
    """Return OpenVINO's settings for one worker: one thread, this precision."""
    return {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        # Where workers run is the scheduler's business: two of them pinned to one core would halve the speed.
        "ENABLE_CPU_PINNING": False,
    }
