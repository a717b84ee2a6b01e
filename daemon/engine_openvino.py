"""The engine on a CPU: OpenVINO, single-threaded, one per lane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from config.openvino_import import openvino_without_telemetry
from daemon.engine import EngineOutput, PreparedEngine

openvino = openvino_without_telemetry()

MODEL = "model.xml"
_HINTS = {"fp32": "f32", "bf16": "bf16"}
# Batches are filled up to one of these sizes: every new shape costs some milliseconds the first time.
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class OpenVinoEngine:
    """One compiled network on one thread."""

    def __init__(self, prepared: PreparedEngine) -> None:
        self._compiled = [
            compiled_model(Path(prepared.folder), precision, name)
            for name, precision in prepared.parts.items()
        ]
        self._parts = [part.create_infer_request() for part in self._compiled]

    def run(self, batch: npt.NDArray[np.uint8]) -> EngineOutput:
        """Return what the network says of pictures (batch, S, S) uint8."""
        count = len(batch)
        size = next((size for size in _SIZES if size >= count), count)
        if size > count:
            batch = np.concatenate((batch, np.zeros((size - count, *batch.shape[1:]), dtype=np.uint8)))
        handed: Any = np.ascontiguousarray(batch[:, None])
        for part in self._parts:
            part.infer([handed], share_inputs=True)
            handed = part.get_output_tensor(0)
        logits, features, maps = (
            # A copy: the request's own memory is overwritten by the next batch.
            np.array(self._parts[-1].get_output_tensor(number).data[:count], dtype=np.float32)
            for number in range(3)
        )
        return EngineOutput(logits, features, maps)

    def convolutions_in_int8(self) -> int:
        """Return how many convolutions really compute in int8 on this processor."""
        operations = [op for part in self._compiled for op in part.get_runtime_model().get_ops()]
        told = [
            tuple(str(op.get_rt_info()[name].astype(str)) for name in ("layerType", "primitiveType"))
            for op in operations
        ]
        return sum(kind == "Convolution" and primitive.endswith("_I8") for kind, primitive in told)


def compiled_model(folder: Path, precision: str, name: str = MODEL) -> Any:
    """Return a compiled network of a folder; quick when its compiled form lies there already."""
    core = openvino.Core()
    core.set_property({"CACHE_DIR": str(folder / "compiled")})
    return core.compile_model(str(folder / name), "CPU", settings(precision))


def settings(precision: str) -> dict[str, Any]:
    """Return OpenVINO's settings for one lane: one thread, this precision."""
    return {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        # Where lanes run is the scheduler's business: two of them pinned to one core would halve the speed.
        "ENABLE_CPU_PINNING": False,
    }
