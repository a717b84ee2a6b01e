"""ONNX files are checked before a library opens them: what lies elsewhere or is not there is refused."""

from __future__ import annotations

import contextlib
import os
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import WeightsError
from daemon.foreign.onnx_wire import check_onnx
from tests.support.onnx_files import (
    chunk,
    colour_network,
    external,
    graph,
    model,
    node,
    number,
    port,
    tensor,
    varint,
)

_PORTS = [port("image", ["batch", 3, 8, 8])], port("answer", ["batch", 3])
_ONES = np.ones((2, 2), dtype=np.float32)


def _with(*tensors: bytes, nodes: tuple[bytes, ...] = (node("Relu", ["image"], "answer"),)) -> bytes:
    return model(graph(nodes, tensors, *_PORTS))


def _nested(depth: int) -> bytes:
    inner = graph([node("Relu", ["image"], "answer")], [], *_PORTS)
    for _ in range(depth):
        inner = graph([node("If", ["image"], "answer", graph_then_branch=inner)], [], *_PORTS)
    return model(inner)


@pytest.mark.parametrize(
    "content",
    [
        colour_network(),
        colour_network(end="Softmax", batch=1, nhwc=True),
        _with(tensor("w", _ONES), tensor("empty", _ONES[:0]), tensor("whole", np.arange(5))),
        _nested(3),
    ],
)
def test_a_file_that_holds_all_of_its_data_passes(content: bytes) -> None:
    check_onnx(memoryview(content))


HOSTILE = {
    "absolute external data": (_with(external("w", "/etc/hostname", [2, 2])), "in another file"),
    "relative external data": (_with(external("w", "../../secret", [2, 2])), "in another file"),
    "external data in an attribute": (
        _with(nodes=(node("Constant", [], "answer", value=external("w", "/etc/hostname", [1])),)),
        "in another file",
    ),
    "external data in a graph of a node": (
        _with(
            nodes=(
                node(
                    "If",
                    ["image"],
                    "answer",
                    graph_else_branch=graph(
                        [node("Relu", ["image"], "a")], [external("w", "x", [1])], *_PORTS
                    ),
                ),
            )
        ),
        "in another file",
    ),
    "external data in a sparse tensor": (
        model(
            graph([node("Relu", ["image"], "answer")], [], *_PORTS)
            + chunk(15, chunk(1, external("w", "/etc/hostname", [1])))
        ),
        "in another file",
    ),
    "external data in a function": (
        _with()
        + chunk(25, chunk(7, node("Constant", [], "answer", value=external("w", "/etc/hostname", [1])))),
        "in another file",
    ),
    "a location without an entry": (_with(tensor("w", _ONES, more=number(14, 1))), "in another file"),
    "an entry without a location": (_with(tensor("w", _ONES, more=chunk(13, b""))), "in another file"),
    "two gigabytes declared": (_with(tensor("w", _ONES, [1 << 14, 1 << 15])), "declares 536,870,912 numbers"),
    "more than there can be": (_with(tensor("w", _ONES, [1 << 40, 1 << 40])), "declares"),
    "negative dimension": (_with(tensor("w", _ONES, [-1, 4])), "negative dimension"),
    "unknown type": (_with(tensor("w", _ONES, more=number(2, 99))), "no known type"),
    "deep nesting": (_nested(40), "nested more than"),
    "truncated": (colour_network()[:-20], "only the beginning"),
    "a number without an end": (b"\xff" * 64, "no ONNX file"),
    "empty": (b"", "no ONNX file"),
    "a text": (b"<?xml version='1.0'?><net name='x'/>", "no ONNX file"),
    "a graph without nodes": (model(graph([], [], *_PORTS)), "no ONNX file"),
    "a chunk longer than the file": (varint(7 << 3 | 2) + varint(1 << 62) + b"x", "only the beginning"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_a_line_that_says_why(name: str) -> None:
    content, words = HOSTILE[name]

    with pytest.raises(WeightsError, match=words) as refused:
        check_onnx(memoryview(content))

    assert "\n" not in str(refused.value)


@given(st.integers(0, 10**9))
def test_bytes_that_were_changed_are_refused_or_pass_and_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    content = bytearray(colour_network())
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content))] = rng.randrange(256)

    with contextlib.suppress(WeightsError):  # any other exception fails the test
        check_onnx(memoryview(bytes(content)))


def test_every_beginning_of_a_file_is_refused_or_lacks_its_version_only() -> None:
    content = colour_network()
    version = len(chunk(8, chunk(1, "") + number(2, 18)))

    for end in range(len(content) - version):
        with pytest.raises(WeightsError):
            check_onnx(memoryview(content[:end]))


def test_random_bytes_are_no_model() -> None:
    for size in (1, 10, 1_000, 100_000):
        with pytest.raises(WeightsError):
            check_onnx(memoryview(os.urandom(size)))
