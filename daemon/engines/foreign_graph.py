"""Make the OpenVINO graph of a network that was not trained here, with the inputs and outputs of ours.

It takes pictures (batch, 1 or 3, S, S) uint8 and gives logits (batch, classes) alone: no features, no maps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from config.errors import WeightsError
from config.text import printable
from daemon.foreign.onnx_wire import check_onnx
from trainer.model.foreign_network import FOREIGN_TENSOR, ForeignNetwork
from trainer.model.openvino_import import openvino_without_telemetry
from trainer.model.spec import ModelSpec
from trainer.model.weights import Tensors

# Of probabilities, so that their logarithm is a number.
_LEAST_SHARE, _LEAST_SIGMOID = 1e-30, 1e-7
# A sigmoid's logits lie inside of this unless they were cut off there.
CUT_OFF = float(np.log((1 - _LEAST_SIGMOID) / _LEAST_SIGMOID))


def foreign_graph(spec: ModelSpec, tensors: Tensors) -> Any:
    """Return the `openvino.Model`; raise WeightsError, one line, if the file cannot be what its spec says."""
    assert spec.foreign is not None
    content = tensors.get(FOREIGN_TENSOR)
    if content is None or content.dtype != np.uint8 or content.ndim != 1:
        raise WeightsError("the weights file holds no ONNX network")
    data = content.tobytes()
    check_onnx(memoryview(data))  # the reader below opens what a file names
    openvino = openvino_without_telemetry()
    try:
        network = openvino.Core().read_model(data, b"")
        return _Adapter(openvino, network, spec, spec.foreign).adapted()
    except WeightsError:
        raise
    except MemoryError:
        raise WeightsError("the network needs more memory than its file's size allows") from None
    except (RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"OpenVINO cannot read the network ({_reason(error)})", hint="export it with another opset"
        ) from None


def _reason(error: Exception) -> str:
    """Return the line of a report of OpenVINO that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line.removeprefix("-- ") for line in lines if line.startswith("-- ")] or [
        line
        for line in lines
        if not line.startswith(("Exception from", "Check '", "While ", "[ ", "FrontEnd"))
    ]
    return printable((told or lines or [type(error).__name__])[0])[:200]


class _Adapter:
    def __init__(self, openvino: Any, network: Any, spec: ModelSpec, foreign: ForeignNetwork) -> None:
        self._op: Any = openvino.opset13
        self._openvino = openvino
        self._network = network
        self._spec = spec
        self._foreign = foreign

    def adapted(self) -> Any:
        """Return the network between our input and our output."""
        op, how = self._op, self._spec.preprocessing
        entry = _chosen(self._network.inputs, self._foreign.input, "input")
        batch = self._reshaped(entry)
        pictures = op.parameter(
            [batch, how.channels, how.image_size, how.image_size], np.uint8, name="pictures"
        )
        x = op.convert(pictures, "f32")
        if how.channels == 3 and self._foreign.colours == "BGR":
            x = op.gather(x, np.array([2, 1, 0]), np.int64(1))
        std = np.asarray(how.std, dtype=np.float64).reshape(1, -1, 1, 1)
        mean = np.asarray(how.mean, dtype=np.float64).reshape(1, -1, 1, 1)
        x = op.multiply(x, (1 / (255 * std)).astype(np.float32))
        x = op.add(x, (-mean / std).astype(np.float32))
        if self._foreign.layout == "NHWC":
            x = op.transpose(x, np.array([0, 2, 3, 1]))
        kind = entry.get_element_type()
        if kind.is_integral():
            x = op.round(x, "half_to_even")
        x = op.convert(x, kind.to_string()) if kind.to_string() != "f32" else x
        for target in entry.get_target_inputs():
            target.replace_source_output(x.output(0))
        leaving = _chosen(self._network.outputs, self._foreign.output, "output")
        logits = self._logits(leaving.get_node().input_value(0))
        return self._openvino.Model([logits], [pictures], "network")

    def _reshaped(self, entry: Any) -> int:
        """Give the input the described shape; return how many pictures it takes at once (-1: any number)."""
        how = self._spec.preprocessing
        shape = [how.channels, how.image_size, how.image_size]
        if self._foreign.layout == "NHWC":
            shape = [*shape[1:], shape[0]]
        before = entry.get_partial_shape()
        name = entry.get_any_name() if entry.get_names() else entry.get_node().get_friendly_name()
        if not before.compatible(self._openvino.PartialShape([-1, *shape])):
            raise WeightsError(
                f"its input {printable(repr(name))} takes {printable(str(before))}, the description says "
                f"{self._foreign.layout} {[-1, *shape]}",
                hint="mend size, channels or layout of [input]",
            )
        first = before[0]
        for batch in (-1, 1):
            if batch == 1 and first.is_static and first.get_length() != 1:
                break
            try:
                self._network.reshape({entry: self._openvino.PartialShape([batch, *shape])})
            except RuntimeError:
                continue
            if batch == 1 or self._batches():
                return batch
        raise WeightsError(
            f"it takes {first} pictures at once, neither one nor any number",
            hint="export it with a dynamic batch",
        )

    def _batches(self) -> bool:
        """Whether the output has an answer for each picture of a batch of any size."""
        shape = _chosen(self._network.outputs, self._foreign.output, "output").get_partial_shape()
        return bool(shape.rank.is_static and len(shape) and shape[0].is_dynamic)

    def _logits(self, said: Any) -> Any:
        """Return logits (batch, classes) of what the network gives."""
        op, classes = self._op, len(self._spec.classes)
        shape = said.get_partial_shape()
        numbers = 1
        for axis in range(1, len(shape) if shape.rank.is_static else 0):
            numbers *= shape[axis].get_length() if shape[axis].is_static else 0
        alone = classes == 2 and numbers == 1
        if not (alone or numbers == classes) or (self._foreign.gives == "sigmoid" and not alone):
            wanted = "one number" if self._foreign.gives == "sigmoid" else f"{classes} numbers, one a class"
            raise WeightsError(
                f"its output is {printable(str(shape))}, the description needs {wanted}",
                hint="mend classes, gives or the name of [output]",
            )
        flat = op.reshape(op.convert(said, "f32"), np.array([0, numbers], dtype=np.int64), True)
        if self._foreign.gives == "softmax" and not alone:
            return op.log(op.maximum(flat, np.float32(_LEAST_SHARE)))
        if self._foreign.gives != "logits":
            share = op.clamp(flat, _LEAST_SIGMOID, 1 - _LEAST_SIGMOID)
            flat = op.subtract(op.log(share), op.log(op.subtract(np.float32(1), share)))
        return op.concat([op.multiply(flat, np.float32(0)), flat], 1) if alone else flat


def _chosen(ports: Any, name: str, what: str) -> Any:
    """Return the input or output with a name, the only one without; raise WeightsError."""
    names = [sorted(port.get_names()) or [port.get_node().get_friendly_name()] for port in ports]
    listed = printable(", ".join(one[0] for one in names[:8]))
    if name:
        found = [port for port, known in zip(ports, names, strict=True) if name in known]
        if not found:
            raise WeightsError(f"it has no {what} {printable(repr(name))}", hint=f"there are: {listed}")
        return found[0]
    if len(ports) != 1:
        raise WeightsError(f"it has {len(ports)} {what}s ({listed})", hint=f"give the name of [{what}]")
    return ports[0]
