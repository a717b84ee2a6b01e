"""ONNX files written byte by byte (protobuf), good and hostile ones: neither onnx nor torch is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

SIDE = 16
COLOURS = ("red", "green", "blue")
_FLOAT, _INT64 = 1, 7
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_INTS = 1, 2, 4, 5, 7
Attribute = int | Sequence[int] | bytes


def varint(number: int) -> bytes:
    """Return a number as protobuf writes it; negative ones take ten bytes."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def number(place: int, value: int) -> bytes:
    """Return a field with a whole number."""
    return varint(place << 3) + varint(value)


def chunk(place: int, content: bytes | str) -> bytes:
    """Return a field with bytes, a text or a message."""
    data = content.encode() if isinstance(content, str) else content
    return varint(place << 3 | 2) + varint(len(data)) + data


def tensor(
    name: str, values: npt.NDArray[np.generic], dimensions: Sequence[int] | None = None, more: bytes = b""
) -> bytes:
    """Return a TensorProto; `dimensions` may declare another shape than the values have."""
    kind = _INT64 if values.dtype == np.int64 else _FLOAT
    shape = values.shape if dimensions is None else dimensions
    sizes = b"".join(number(1, one) for one in shape)
    return sizes + number(2, kind) + chunk(8, name) + chunk(9, values.tobytes()) + more


def external(name: str, place: str, dimensions: Sequence[int]) -> bytes:
    """Return a TensorProto whose numbers lie in another file."""
    entry = chunk(1, "location") + chunk(2, place)
    sizes = b"".join(number(1, one) for one in dimensions)
    return sizes + number(2, _FLOAT) + chunk(8, name) + chunk(13, entry) + number(14, 1)


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Attribute) -> bytes:
    """Return a NodeProto; an attribute that is bytes is a TensorProto, `graph_...` a GraphProto."""
    out = b"".join(chunk(1, one) for one in inputs) + chunk(2, output) + chunk(4, kind)
    return out + b"".join(chunk(5, _attribute(name, value)) for name, value in attributes.items())


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, int):
        return chunk(1, name) + number(3, value) + number(20, _ATTRIBUTE_INT)
    if isinstance(value, bytes):
        if name.startswith("graph_"):
            return chunk(1, name.removeprefix("graph_")) + chunk(6, value) + number(20, _ATTRIBUTE_GRAPH)
        return chunk(1, name) + chunk(5, value) + number(20, _ATTRIBUTE_TENSOR)
    return chunk(1, name) + b"".join(number(8, one) for one in value) + number(20, _ATTRIBUTE_INTS)


def port(name: str, shape: Sequence[int | str]) -> bytes:
    """Return a ValueInfoProto of float32; a text is the name of a dimension of any size."""
    sizes = b"".join(chunk(1, number(1, one) if isinstance(one, int) else chunk(2, one)) for one in shape)
    return chunk(1, name) + chunk(2, chunk(1, number(1, _FLOAT) + chunk(2, sizes)))


def graph(nodes: Sequence[bytes], tensors: Sequence[bytes], inputs: Sequence[bytes], output: bytes) -> bytes:
    """Return a GraphProto."""
    out = (
        b"".join(chunk(1, one) for one in nodes)
        + chunk(2, "made")
        + b"".join(chunk(5, one) for one in tensors)
    )
    return out + b"".join(chunk(11, one) for one in inputs) + chunk(12, output)


def model(content: bytes) -> bytes:
    """Return a ModelProto of a GraphProto."""
    return number(1, 8) + chunk(7, content) + chunk(8, chunk(1, "") + number(2, 18))


def colour_network(
    *,
    end: str = "",
    batch: int | str = "batch",
    nhwc: bool = False,
    weight: npt.NDArray[np.float32] | None = None,
) -> bytes:
    """Return a network that tells which of the three channels is brightest on the whole.

    It takes (batch, 3, SIDE, SIDE) float32; `end` is an operator behind its scores, such as Softmax.
    """
    weight = np.eye(3, dtype=np.float32) * 8 if weight is None else weight
    shape = [batch, SIDE, SIDE, 3] if nhwc else [batch, 3, SIDE, SIDE]
    nodes = [node("Transpose", ["image"], "planes", perm=[0, 3, 1, 2])] if nhwc else []
    nodes += [
        node("GlobalAveragePool", ["planes" if nhwc else "image"], "pooled"),
        node("Flatten", ["pooled"], "flat", axis=1),
        node("Gemm", ["flat", "weight"], "scores" if end else "answer", transB=1),
    ]
    if end:
        nodes.append(node(end, ["scores"], "answer"))
    ports = [port("image", shape)], port("answer", [batch, len(weight)])
    return model(graph(nodes, [tensor("weight", weight)], *ports))


def description(place: Path, **changes: str) -> Path:
    """Write a description of `colour_network`; changes are lines by table: input, output, decision, top."""
    lines = [changes.get("top", 'classes = ["red", "green", "blue"]')]
    lines += ["[input]", changes.get("input", f"size = {SIDE}")]
    lines += [f"[output]\n{changes['output']}"] if "output" in changes else []
    lines += [f"[decision]\n{changes['decision']}"] if "decision" in changes else []
    place.write_text("\n".join(lines) + "\n")
    return place
