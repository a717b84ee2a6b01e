"""Check an ONNX file's bytes before any library opens them: nothing outside, nothing larger than the file.

OpenVINO's ONNX reader opens whatever external data a file names, absolute paths too, and allocates what its
tensors declare. The onnx package could look before, but is not in the base installation; so this walks the
protobuf messages itself (https://protobuf.dev/programming-guides/encoding/), by the fields of onnx.proto3
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3), copies nothing and is bounded in depth and number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from config.errors import WeightsError
from config.text import printable

# Message -> its fields that are messages of interest, by number.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "opset": {},
}
# Deeper than any graph in a graph that was ever exported; each of them costs two.
_DEEPEST = 32
_MOST_FIELDS = 20_000_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Bits of one number of a tensor by its data type (TensorProto.DataType); strings have none.
_STRING = 8
_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128,
    16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
# Of one number in the fields for numbers of a type (float_data, ...): complex ones take two.
_LEAST_BITS_TYPED = {4: 32, 10: 64}
_DIMENSIONS, _DATA_TYPE, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14
_TYPED = (4, 5, 6, 7, 10, 11)


def check_onnx(data: memoryview) -> None:
    """Raise WeightsError unless the bytes are an ONNX model that holds all of its own data."""
    walk = _Walk(data)
    found: set[str] = set()
    stack = [("model", 0, len(data), 0)]
    while stack:
        kind, begin, end, depth = stack.pop()
        if depth > _DEEPEST:
            raise WeightsError(f"it is nested more than {_DEEPEST} deep")
        found.add(kind)
        if kind == "tensor":
            walk.check_tensor(begin, end)
            continue
        inner = _MESSAGES[kind]
        for number, wire, start, stop in walk.fields(begin, end):
            if number in inner and wire == _BYTES:
                stack.append((inner[number], start, stop, depth + 1))
    if not {"graph", "node", "opset"} <= found:
        raise WeightsError("it is no ONNX file")


@dataclass(slots=True)
class _Tensor:
    name: str = ""
    kind: int = 0
    dimensions: list[int] = field(default_factory=list)
    raw: int = 0  # bytes
    typed: int = 0  # bytes or numbers, whichever are fewer
    strings: int = 0


class _Walk:
    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._fields = 0

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (number, wire type, begin, end) of a message's fields; a varint's value is read of it."""
        while at < end:
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise WeightsError(f"it has more than {_MOST_FIELDS:,} fields")
            tag, at = self.varint(at, end)
            number, wire = tag >> 3, tag & 7
            begin = at
            if wire == _VARINT:
                _, at = self.varint(at, end)
            elif wire == _BYTES:
                length, begin = self.varint(at, end)
                at = begin + length
            elif wire in (_FIXED64, _FIXED32):
                at += 8 if wire == _FIXED64 else 4
            else:
                raise WeightsError("it is no ONNX file")
            if at > end or number == 0:
                raise WeightsError("it is no ONNX file, or only the beginning of one")
            yield number, wire, begin, at

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """Return a number and where it ends."""
        value = 0
        for place in range(10):
            if at >= end:
                raise WeightsError("it is no ONNX file, or only the beginning of one")
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value, at
        raise WeightsError("it is no ONNX file")

    def check_tensor(self, begin: int, end: int) -> None:
        """Refuse a tensor whose data lie elsewhere, or that declares more than it holds."""
        tensor = _Tensor()
        for number, wire, start, stop in self.fields(begin, end):
            if number == _EXTERNAL or (
                number == _LOCATION and (wire != _VARINT or self.varint(start, stop)[0] != 0)
            ):
                raise WeightsError(
                    "its tensors lie in another file, which is not opened",
                    hint="save it in one file: onnx.save_model(model, FILE, save_as_external_data=False)",
                )
            self._note(tensor, number, wire, (start, stop))
        _check_size(tensor)

    def _note(self, tensor: _Tensor, number: int, wire: int, where: tuple[int, int]) -> None:
        start, stop = where
        if number == _DIMENSIONS:
            at = start
            while at < stop:
                value, at = self.varint(at, stop)
                tensor.dimensions.append(value)
        elif number == _DATA_TYPE and wire == _VARINT:
            tensor.kind = self.varint(start, stop)[0]
        elif number == _NAME:
            tensor.name = bytes(self._data[start : min(stop, start + 80)]).decode("utf-8", "replace")
        elif number == _RAW:
            tensor.raw += stop - start
        elif number in _TYPED:
            tensor.strings += number == 6
            tensor.typed += (stop - start) * 8 // _LEAST_BITS_TYPED.get(number, 8)


def _check_size(tensor: _Tensor) -> None:
    shown = printable(repr(tensor.name))
    count = 1
    for dimension in tensor.dimensions:
        if dimension >= 1 << 63:
            raise WeightsError(f"its tensor {shown} has a negative dimension")
        count = min(count * dimension, 1 << 63)
    if tensor.kind == _STRING:
        fits = count <= tensor.strings
    elif tensor.kind not in _BITS:
        raise WeightsError(f"its tensor {shown} has no known type of numbers ({tensor.kind})")
    elif tensor.raw:
        fits = tensor.raw == (count * _BITS[tensor.kind] + 7) // 8
    else:
        fits = count <= tensor.typed * max(1, 8 // _BITS[tensor.kind])
    if not fits:
        raise WeightsError(f"its tensor {shown} declares {count:,} numbers, which the file does not hold")
