"""Import OpenVINO without the message that its import sends to its makers.

`import openvino` reports its use over the network from a thread of its own (package
openvino-telemetry). A program that reads patients' images on machines without a way out must not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

# None makes `import` of a module fail. Without the first OpenVINO takes its own stub, without the second
# it goes without `convert_model`, which takes a third of the import's time and which workers do not need.
_TELEMETRY = "openvino_telemetry"
_CONVERTER = "openvino.tools"


def openvino_without_telemetry() -> Any:
    """Return the module openvino; raise ImportError where it is not installed.

    `converter` returns what turns a torch module into an OpenVINO model.
    """
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]
    if "openvino" not in sys.modules:
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if sys.modules.get(_CONVERTER, openvino_without_telemetry) is None:
            del sys.modules[_CONVERTER]  # `converter` may still import it
    return openvino


def converter() -> Callable[..., Any]:
    """Return OpenVINO's `convert_model`; raise ImportError where it is not installed."""
    openvino_without_telemetry()
    from openvino.tools.ovc import convert_model

    convert: Callable[..., Any] = convert_model
    return convert
