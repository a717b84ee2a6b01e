"""Writes the network as OpenVINO IR and as ONNX for the contenders that load those."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Export the weights file named first."""
    import numpy as np
    import torch

    from config.openvino_import import openvino_without_telemetry
    from trainer.networks import load
    from trainer.weights import read_weights

    model = read_weights(Path(arguments[0]))
    network, size = load(model), model.spec.preprocessing.image_size
    example = torch.zeros(2, 1, size, size, dtype=torch.uint8)
    openvino = openvino_without_telemetry()
    converted = openvino.convert_model(
        network, example_input=example, input=[([-1, 1, size, size], np.uint8)]
    )
    openvino.save_model(converted, os.environ["BENCHMARK_IR"], compress_to_fp16=False)
    torch.onnx.export(
        network, (example,), os.environ["BENCHMARK_ONNX"], input_names=["pictures"], dynamo=False,
        output_names=["logits", "features", "maps"], dynamic_axes={"pictures": {0: "batch"}},
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
