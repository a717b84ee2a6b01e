"""Networks of which only the later part is in bfloat16.

Rounding hurts most in the first layers, where sharp filters meet large flat areas, and pays least
there. So a network may be cut where a single tensor holds all it knows so far: what comes before runs
in float32, what follows in bfloat16.
"""

from __future__ import annotations

import math
from typing import Any

from config.openvino_import import openvino_without_telemetry

_COSTLY = ("Convolution", "GroupConvolution", "MatMul")


def cuts(model: Any) -> list[str]:
    """Return the names of the operations after which a network can be cut, from the input on.

    An operation is a cut if nothing computed before it is used after it. Of neighbouring cuts only
    those stay whose tensor is the smallest: the parts hand it over in float32.
    """
    found = [(op.get_friendly_name(), _numbers(op)) for op in _narrow_places(model)]
    sizes = [float("inf"), *(size for _, size in found), float("inf")]
    return [
        name
        for place, (name, size) in enumerate(found, start=1)
        if size <= sizes[place - 1] and size <= sizes[place + 1]
    ]


def _narrow_places(model: Any) -> list[Any]:
    order = model.get_ordered_ops()
    place = {op.get_friendly_name(): number for number, op in enumerate(order)}
    found = []
    needed_until = -1  # the farthest place at which something made so far is used
    for number, op in enumerate(order):
        if op.get_type_name() in {"Constant", "Result"} or _is_constant(op):
            continue
        users = [place[user.get_node().get_friendly_name()] for user in _users(op)]
        alone = needed_until <= number
        if any(order[user].get_type_name() == "Result" for user in users):
            users.append(len(order))  # an output of the whole: it must come from the back
        needed_until = max([needed_until, *users])
        if (
            alone
            and op.get_type_name() != "Parameter"
            and any(order[user].get_type_name() in _COSTLY for user in users)
        ):
            found.append(op)
    return found


def divided(model: Any, cut: str) -> tuple[Any, Any]:
    """Return the parts of a network before and after a cut; `model` is left as it was."""
    openvino = openvino_without_telemetry()
    opset = openvino.opset13
    front, back = model.clone(), model.clone()
    tensor = _named(front, cut).output(0)
    before = openvino.Model([opset.result(tensor)], front.get_parameters())
    tensor = _named(back, cut).output(0)
    entry = opset.parameter(tensor.get_partial_shape(), tensor.get_element_type())
    for user in tensor.get_target_inputs():
        user.replace_source_output(entry.output(0))
    return before, openvino.Model(back.get_results(), [entry])


def _named(model: Any, name: str) -> Any:
    return next(op for op in model.get_ordered_ops() if op.get_friendly_name() == name)


def _numbers(op: Any) -> int:
    """Return how many numbers an operation hands on per picture."""
    return math.prod(size.get_length() for size in list(op.output(0).get_partial_shape())[1:])


def _users(op: Any) -> list[Any]:
    return [user for output in op.outputs() for user in output.get_target_inputs()]


def _is_constant(op: Any) -> bool:
    """Whether an operation depends on no input: weights on their way through a conversion."""
    inputs = op.inputs()
    return bool(inputs) and all(
        source.get_type_name() == "Constant" or _is_constant(source)
        for source in (one.get_source_output().get_node() for one in inputs)
    )
