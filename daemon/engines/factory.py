"""Open a prepared engine in the process that computes.

`open_engine` runs in the process that computes; `daemon.engines.cache` finds or makes what it opens.
"""

from __future__ import annotations

from pathlib import Path

from daemon.engines.base import Engine
from daemon.engines.manifest import Compiled, PreparedEngine
from trainer.model.prediction import distance_tensors
from trainer.model.weights import read_weights


def open_engine(prepared: PreparedEngine) -> Engine:
    """Open a prepared engine in the process that computes."""
    if prepared.network is not None:
        return _open_compiled(prepared, prepared.network)
    if prepared.kind == "openvino":
        from daemon.engines.openvino_engine import open_graph

        return open_graph(read_weights(Path(prepared.weights)))
    from daemon.engines.torch_engine import TorchEngine

    return TorchEngine(prepared)


def _open_compiled(prepared: PreparedEngine, network: Compiled) -> Engine:
    from daemon.engines.cascade import CascadeEngine
    from daemon.engines.openvino_engine import open_compiled

    folder = Path(prepared.folder)
    engine = open_compiled(folder, network)
    if prepared.exact is None or prepared.slack is None:
        return engine
    weights = read_weights(Path(prepared.weights))
    exact = open_compiled(folder, prepared.exact)
    return CascadeEngine(engine, exact, prepared.slack, weights.spec, distance_tensors(weights.tensors))
