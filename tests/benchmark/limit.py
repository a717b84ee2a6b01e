"""What the machine could do: each part of the work measured alone, from memory.

    python -m tests.benchmark.limit WEIGHTS FOLDER CACHE [cpu|decode|cuda:N]

Prints as JSON what one image costs. On a CPU: CPU-seconds of decoding and of the network, which share the
cores. On a GPU: CPU-seconds of decoding, and seconds of the copies to and from the device, of the network
there and of a stored row; these run beside each other, so the slowest of them is the limit.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from daemon.engines.base import Engine
from daemon.engines.cache import prepare_engine
from daemon.engines.factory import open_engine
from daemon.engines.manifest import PreparedEngine
from daemon.process import child_environment
from daemon.service.open_ledger import model_record
from storage.database import open_writer
from storage.ledger.ledger import Ledger
from storage.records import FileVersion, Judged, Outcome, Status
from trainer.images.decode import decode
from trainer.images.picture import Limits
from trainer.model.preprocess import preprocess
from trainer.model.spec import ModelSpec, Preprocessing
from trainer.model.weights import read_spec

_SAMPLE = 400  # images, in memory
_BATCH = 16
_DEVICE_BATCH = 512
_DEVICE_RUNS = 50
_ROWS = 4096
_COMMIT = 512  # rows in one transaction: about what a busy daemon finds waiting

Pictures = npt.NDArray[np.uint8]


def limit(weights: Path, folder: Path, cache: Path, cores: int, device: str = "cpu") -> dict[str, Any]:
    """Return what an image costs in each part, the images/s that allows on all cores, and what bounds it.

    `device` is "cpu" or "cuda:N".
    """
    command = [sys.executable, "-m", "tests.benchmark.limit", str(weights), str(folder), str(cache)]
    # All at once: cores that share caches and clock must do so here as well.
    running = [
        subprocess.Popen(
            [*command, *([] if device == "cpu" else ["decode"])],
            stdout=subprocess.PIPE,
            env=child_environment(),
        )
        for _ in range(cores)
    ]
    said = [json.loads(process.communicate()[0]) for process in running]
    parts = {name: sum(one[name] for one in said) / cores for name in said[0]}
    if device == "cpu":
        return {**parts, "images_per_second": cores / sum(parts.values()), "bound": "the cores"}
    done = subprocess.run([*command, device], stdout=subprocess.PIPE, env=child_environment(), check=True)
    return slowest(parts["decode_cpu_seconds"], json.loads(done.stdout), cores)


def slowest(decode_cpu_seconds: float, device: dict[str, float], cores: int) -> dict[str, Any]:
    """Return all parts, and the images/s of the slowest: with a GPU they run beside each other."""
    speeds = {"decode": cores / decode_cpu_seconds}
    speeds |= {name.removesuffix("_seconds"): 1 / seconds for name, seconds in device.items()}
    bound = min(speeds, key=lambda name: speeds[name])
    return {
        "decode_cpu_seconds": decode_cpu_seconds,
        **device,
        "images_per_second": speeds[bound],
        "bound": bound,
        "speeds": speeds,
    }


def main(arguments: list[str]) -> None:
    """Measure in this process and print."""
    weights, folder, cache = map(Path, arguments[:3])
    part = arguments[3] if len(arguments) > 3 else "cpu"
    if part == "decode":
        print(
            json.dumps({"decode_cpu_seconds": _decode_seconds(folder, read_spec(weights).preprocessing)[0]})
        )
        return
    prepared, spec = prepare_engine(weights, part, "auto", cache, logging.getLogger("benchmark"))
    if part != "cpu":
        print(json.dumps({**_on_device(prepared), "commit_seconds": commit_seconds(prepared, spec)}))
        return
    decoding, inputs = _decode_seconds(folder, spec.preprocessing)
    forward = _forward_seconds(open_engine(prepared), inputs)
    print(json.dumps({"decode_cpu_seconds": decoding, "forward_cpu_seconds": forward}))


def _decode_seconds(folder: Path, how: Preprocessing) -> tuple[float, list[Pictures]]:
    files = [path.read_bytes() for path in sorted(folder.iterdir())[:_SAMPLE]]
    decode(files[0], Limits(), how.image_size)  # the first of its kind imports what reads it
    began = time.process_time()
    inputs = [preprocess(decode(data, Limits(), how.image_size).slices[0].image, how) for data in files]
    return (time.process_time() - began) / len(files), inputs


def _forward_seconds(engine: Engine, inputs: list[Pictures]) -> float:
    batches = [np.stack(inputs[at : at + _BATCH]) for at in range(0, len(inputs), _BATCH)]
    for batch in (batches[0], batches[-1]):
        engine.run(batch)  # the first pass of a shape prepares it
    began = time.process_time()
    for batch in batches:
        engine.run(batch)
    return (time.process_time() - began) / len(inputs)


def _on_device(prepared: PreparedEngine) -> dict[str, float]:
    """Return seconds per image of the copies, as the engine makes them, and of all else it does."""
    import torch

    from daemon.engines.torch_engine import TorchEngine

    engine = TorchEngine(prepared, maps=False)
    engine.warm_up()
    batch = min(_DEVICE_BATCH, engine.layout.batch)
    side = engine.layout.picture[0]
    shape = (batch, 1, side, side)
    staged = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
    there = torch.zeros(shape, dtype=torch.uint8, device=prepared.device)
    rows = torch.zeros((batch, engine.layout.row_length), device=prepared.device)
    back = torch.zeros(rows.shape, pin_memory=True)

    def copy() -> None:
        there.copy_(staged, non_blocking=True)
        back.copy_(rows, non_blocking=True)
        torch.cuda.synchronize()

    parts = [np.zeros((batch, side, side), dtype=np.uint8)]
    copying = _best(copy) / batch
    return {
        "copy_seconds": copying,
        # Filling the pinned memory is part of it: the device stands still meanwhile.
        "forward_seconds": max(0.0, _best(lambda: engine.rows(parts)) / batch - copying),
    }


def commit_seconds(prepared: PreparedEngine, spec: ModelSpec) -> float:
    """Return seconds per row that is found and judged, stored as the daemon stores it."""
    with tempfile.TemporaryDirectory(prefix="bt-commit-") as name:
        connection = open_writer(Path(name) / "results.db")
        try:
            ledger = Ledger(connection)
            model_id = ledger.model_id(model_record(prepared, spec))
            inbox_id = ledger.inbox_id(b"/inbox")
            began = time.perf_counter()
            for start in range(0, _ROWS, _COMMIT):
                _commit(ledger, inbox_id, model_id, spec.classes[0], range(start, start + _COMMIT))
            return (time.perf_counter() - began) / _ROWS
        finally:
            connection.close()


def _commit(ledger: Ledger, inbox_id: int, model_id: int, label: str, numbers: range) -> None:
    versions = [FileVersion(inbox_id, b"", b"%06d.jpg" % number, 7000, number, number) for number in numbers]
    with ledger.transaction():
        entries = ledger.add(versions)
        judged = Judged(Status.OK, label, 0.9, None)
        ledger.record(
            [Outcome(entry.file_id, judged, entry.file_id.to_bytes(32, "big"), 500) for entry in entries],
            model_id,
        )


def _best(work: Callable[[], object]) -> float:
    took = []
    for _ in range(_DEVICE_RUNS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


if __name__ == "__main__":
    main(sys.argv[1:])
