"""Engines that carry batches to other machines, as the harness starts them: one entry is one adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HarnessEngine:
    """How head and nodes of one adapter are started, and what their processes are called."""

    head: Callable[[str, Path], list[str | Path]]  # address of the head, PEM -> options of `bt-daemon watch`
    node_module: str  # run as `python -m` with the address of the head, then the options below
    node: Callable[[str, Path], list[str | Path]]  # the same -> its first arguments
    make_key: Callable[[Path], list[str | Path]]  # PEM to make -> the arguments of bt-daemon that make it
    joined: str  # what a node's log holds when it has joined
    left: str  # what the head's log holds when a worker has left: {} stands for its process
    carrier: str  # part of the command line of the head's child process that talks to the nodes


_PORT = 8786

ENGINES = {
    "dask": HarnessEngine(
        head=lambda address, key: ["--workers", f"tls://{address}:{_PORT}", "--workers-key", key],
        node_module="tests.harness.scale.node",
        node=lambda address, key: [f"tls://{address}:{_PORT}", "--workers-key", key],
        make_key=lambda key: ["worker", "--make-key", key],
        joined=" joined tls://",
        left=":{} left",
        carrier="daemon.remote",
    )
}
