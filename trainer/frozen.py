"""The frozen beginning of a network, computed by OpenVINO while the rest is trained by torch.

What is not trained needs no gradients, and OpenVINO fuses what torch computes layer by layer: a step of
lite0_six takes 9.0 ms an image instead of 10.4 (160 px, batch 64, two threads).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from config.openvino_import import converter, openvino_without_telemetry

Beginning = Callable[[Tensor], Tensor]


def compiled_beginning(beginning: nn.Module, example: Tensor) -> Beginning | None:
    """Return a faster function of float32 pictures (batch, 1, S, S); None where OpenVINO is not installed.

    Its results differ from the module's by rounding in float32. It belongs to one thread.
    """
    try:
        openvino, convert = openvino_without_telemetry(), converter()
    except ImportError:
        return None
    with warnings.catch_warnings(), _without_gradients(beginning):
        warnings.simplefilter("ignore")  # torch.jit.trace, which OpenVINO converts by, is deprecated
        model = convert(beginning, example_input=example, input=[([-1, *example.shape[1:]], np.float32)])
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    request: Any = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def compute(pictures: Tensor) -> Tensor:
        request.infer([np.ascontiguousarray(pictures.numpy())], share_inputs=True)
        # Copied: the next batch overwrites the request's memory, and gradients need this one's.
        found = torch.from_numpy(np.array(request.get_output_tensor(0).data))
        return found.contiguous(memory_format=torch.channels_last)

    return compute


class _without_gradients:  # noqa: N801 - reads as what it is: a context
    """Tracing takes no parameter that wants gradients as a constant."""

    def __init__(self, module: nn.Module) -> None:
        self._wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def __enter__(self) -> None:
        for parameter in self._wanted:
            parameter.requires_grad = False

    def __exit__(self, *_: object) -> None:
        for parameter in self._wanted:
            parameter.requires_grad = True
