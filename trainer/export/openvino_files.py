"""OpenVINO's pair of files (FILE.xml, FILE.bin) of an ONNX network, and OpenVINO to ask it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from config.files import flush
from trainer.export.agreement import OUTPUTS, Answer, Answers
from trainer.images.arrays import Grey
from trainer.model.openvino_import import openvino_without_telemetry

SECTION = "bt_daemon"  # of the file's rt_info


@contextmanager
def openvino_pair(model: bytes, target: Path, metadata: Mapping[str, str]) -> Iterator[Path]:
    """Write a network of an ONNX file's bytes beside `target`, yield where, and rename both files there.

    Weights stay float32. Nothing appears at `target` if the block fails.
    """
    openvino = openvino_without_telemetry()
    network = openvino.Core().read_model(model, b"")
    for key, value in metadata.items():
        network.set_rt_info(value, [SECTION, key])
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem[:100]}.") as folder:
        made = Path(folder) / target.name
        openvino.save_model(network, str(made), compress_to_fp16=False)
        yield made
        for name in (made.with_suffix(".bin"), made):  # the .xml last: whoever sees it can open it
            flush(name)
            os.chmod(name, 0o644)
            os.replace(name, target.with_name(name.name))
        with contextlib.suppress(OSError):
            flush(target.parent)


def openvino_answers(path: Path) -> Answer:
    """Return what asks OpenVINO on one thread of the CPU, in float32."""
    openvino = openvino_without_telemetry()
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    request: Any = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()

    def ask(pictures: Grey) -> Answers:
        request.infer([np.ascontiguousarray(pictures)])
        logits, features, maps = (np.array(request.get_tensor(name).data) for name in OUTPUTS)
        return logits, features, maps

    return ask
