"""OpenVINO engine: one compiled network on one thread, for a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from daemon.engines.base import EngineOutput
from daemon.engines.manifest import Compiled
from daemon.engines.openvino_import import openvino_without_telemetry
from trainer.images.arrays import Floats, Grey

openvino = openvino_without_telemetry()

MODEL = "model.xml"
_HINTS = {"fp32": "f32", "bf16": "bf16"}
# Batches are filled up to one of these sizes: every new shape costs some milliseconds the first time.
SIZES = (1, 2, 4, 8, 16)


class OpenVinoEngine:
    """One compiled network on one thread."""

    def __init__(self, folder: Path, network: Compiled) -> None:
        """Open a network that lies in the folder, or the form that was compiled of it there before."""
        self._compiled = _compiled_model(folder, network)
        self._request = self._compiled.create_infer_request()
        self._most = network.batch

    def run(self, batch: Grey) -> EngineOutput:
        """Return what the network says of pictures (batch, S, S) uint8."""
        # More at once than fits the processor's caches is slower, and takes memory.
        parts = [self._pass(batch[at : at + self._most]) for at in range(0, len(batch), self._most)]
        return EngineOutput(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def _pass(self, batch: Grey) -> tuple[Floats, Floats, Floats]:
        count = len(batch)
        size = next(size for size in SIZES if size >= count)
        if size > count:
            batch = np.concatenate((batch, np.zeros((size - count, *batch.shape[1:]), dtype=np.uint8)))
        self._request.infer([np.ascontiguousarray(batch[:, None])], share_inputs=True)
        logits, features, maps = (
            # A copy: the request's own memory is overwritten by the next batch.
            np.array(self._request.get_output_tensor(number).data[:count], dtype=np.float32)
            for number in range(3)
        )
        return logits, features, maps


def _compiled_model(folder: Path, network: Compiled) -> Any:
    core = openvino.Core()
    core.set_property({"CACHE_DIR": str(folder / "compiled")})
    return core.compile_model(str(folder / network.file), "CPU", settings(network.precision))


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
