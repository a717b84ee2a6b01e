"""How OpenVINO is imported here: without the message that its import sends to its makers.

`import openvino` reports its use over the network from a thread of its own (package
openvino-telemetry). A program that reads patients' images on machines without a way out must not.
"""

from __future__ import annotations

import sys
from typing import Any


def openvino_without_telemetry() -> Any:
    """Return the module openvino; raise ImportError where it is not installed."""
    # None makes `import openvino_telemetry` fail, upon which OpenVINO takes its own stub.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
