"""ONNX of a weights file's network, its whole spec in the metadata, and ONNX Runtime to ask it."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from config.text import DISCLAIMER
from trainer.export.agreement import OUTPUTS, Answer, Answers
from trainer.images.arrays import Grey
from trainer.model.weights import Weights
from trainer.networks.classifier import Classifier

# The oldest one that torch's exporter writes without converting (ONNX 1.13, 2022): read nearly everywhere.
OPSET = 18
INPUT = "pictures"
PREFIX = "bt_daemon."


def onnx_bytes(network: Classifier, weights: Weights) -> bytes:
    """Return the network as an ONNX file, inputs (batch, 1 or 3, S, S) uint8 with any number of pictures."""
    side, channels = weights.spec.preprocessing.image_size, weights.spec.preprocessing.channels
    example = torch.zeros(2, channels, side, side, dtype=torch.uint8)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of the exporter about itself
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                network, (example,), dynamo=True, opset_version=OPSET, input_names=[INPUT],
                output_names=list(OUTPUTS), dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
            )  # fmt: skip
    finally:
        logging.disable(before)
    model: onnx.ModelProto = program.model_proto
    for key, value in metadata(weights).items():
        model.metadata_props.add(key=f"{PREFIX}{key}", value=value)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def metadata(weights: Weights) -> dict[str, str]:
    """Return what an exported file tells of its model, as texts: the whole spec, and what is asked most."""
    spec = weights.spec
    sources = {str(one.get("name", "")): str(one.get("licence", "")) for one in spec.provenance.data}
    return {
        "spec": spec.to_json(),
        "model": f"{spec.name} {spec.version}",
        "classes": json.dumps(spec.classes),
        "weights_sha256": weights.sha256,
        "licences": json.dumps({name: licence for name, licence in sources.items() if name}),
        "notice": DISCLAIMER,
    }


def onnx_answers(model: bytes | Path) -> Answer:
    """Return what asks ONNX Runtime on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"])

    def ask(pictures: Grey) -> Answers:
        logits, features, maps = session.run(list(OUTPUTS), {INPUT: np.ascontiguousarray(pictures)})
        return logits, features, maps

    return ask


def onnx_metadata(path: Path) -> Mapping[str, str]:
    """Return what an exported file tells of its model, by name without the prefix."""
    model = onnx.load(str(path), load_external_data=False)
    return {
        one.key.removeprefix(PREFIX): one.value for one in model.metadata_props if one.key.startswith(PREFIX)
    }
