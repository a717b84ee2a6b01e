"""Networks whose convolutions compute in 8-bit integers.

OpenVINO runs a convolution in int8 where what goes into it and its weights have both been through a
FakeQuantize, which rounds numbers to those that 8 bits can hold. (Jacob et al. 2018, "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from config.openvino_import import openvino_without_telemetry

# Two layers whose weights point in the same direction to this are the same.
_SAME_DIRECTION = 0.999
_VALUES = 256

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Quantised:
    """A convolution that is to compute in int8."""

    weight: Floats  # (outputs, inputs, height, width), as the network has it
    low: float  # of what goes into it
    high: float


def quantised(model: Any, layers: Sequence[Quantised]) -> Any:
    """Return a copy of a converted network in which these convolutions compute in int8.

    Layers that are not in it, because it is a part of a network, are passed over.
    """
    openvino = openvino_without_telemetry()
    copy = model.clone()
    rounded: dict[tuple[str, int], Any] = {}  # a tensor that two layers take is rounded once
    for op in copy.get_ordered_ops():
        layer = _layer_of(op, layers)
        if layer is not None:
            _round_weight(openvino, op)
            _round_input(openvino, op, layer, rounded)
    copy.validate_nodes_and_infer_types()
    return copy


def _layer_of(op: Any, layers: Sequence[Quantised]) -> Quantised | None:
    """Return the layer that an operation computes, recognised by its weights.

    Names do not last through conversion, and folding a norm scales each output's weights: what stays is
    their direction.
    """
    if op.get_type_name() not in {"Convolution", "GroupConvolution"}:
        return None
    source = op.input_value(1).get_node()
    if source.get_type_name() != "Constant":
        return None
    shape = list(source.output(0).get_shape())
    outputs = shape[0] if op.get_type_name() == "Convolution" else shape[0] * shape[1]
    ours = _directions(source.data.reshape(outputs, -1))
    for layer in layers:
        if layer.weight.shape[0] == outputs and layer.weight.size == ours.size:
            theirs = _directions(layer.weight.reshape(outputs, -1))
            likeness = np.abs((ours * theirs).sum(axis=1))
            silent = ~ours.any(axis=1)  # the norm lets nothing of this output through
            if bool(np.all((likeness > _SAME_DIRECTION) | silent)):
                return layer
    return None


def _directions(rows: npt.NDArray[Any]) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)


def _round_weight(openvino: Any, op: Any) -> None:
    """Round each output's weights to -127..127 steps of their own."""
    weight = op.input_value(1)
    outputs_axes = 1 if op.get_type_name() == "Convolution" else 2  # (groups, outputs of each, ...)
    values = np.abs(weight.get_node().data)
    ends = values.max(axis=tuple(range(outputs_axes, values.ndim)), keepdims=True).astype(np.float32)
    ends[ends == 0] = 1  # nothing to round
    rounded = _fake_quantize(openvino, weight, -ends, ends, _VALUES - 1)
    op.input(1).replace_source_output(rounded.output(0))


def _round_input(openvino: Any, op: Any, layer: Quantised, rounded: dict[tuple[str, int], Any]) -> None:
    """Round what goes into a convolution: before a max-pool, which then works on 8 bits too."""
    entry = op.input(0)
    while _pools_for_this_alone(entry.get_source_output()):
        entry = entry.get_source_output().get_node().input(0)
    tensor = entry.get_source_output()
    key = tensor.get_node().get_friendly_name(), tensor.get_index()
    if key not in rounded:
        low, high = ends_with_exact_zero(layer.low, layer.high)
        rounded[key] = _fake_quantize(openvino, tensor, np.float32(low), np.float32(high), _VALUES)
    entry.replace_source_output(rounded[key].output(0))


def _pools_for_this_alone(tensor: Any) -> bool:
    return tensor.get_node().get_type_name() == "MaxPool" and len(tensor.get_target_inputs()) == 1


def ends_with_exact_zero(low: float, high: float) -> tuple[float, float]:
    """Return ends close to these between which 0 is one of the 256 values: padding is made of it."""
    step = max(high - low, float(np.finfo(np.float32).tiny)) / (_VALUES - 1)
    below = round(-low / step)
    return -below * step, (_VALUES - 1 - below) * step


def _fake_quantize(openvino: Any, tensor: Any, low: Any, high: Any, values: int) -> Any:
    opset = openvino.opset13
    ends = [opset.constant(np.asarray(end, dtype=np.float32)) for end in (low, high)]
    return opset.fake_quantize(tensor, *ends, *ends, values)
