"""The programs that bt-daemon is compared with: whole scripts, same weights, same preprocessing, same sink.

    python -m tests.benchmark.contenders NAME WEIGHTS FOLDER DATABASE [DEVICE]

All of them use this project's decoder and preprocessing: with any other the labels would not be the
model's. So they differ in how the work is organised and in what computes the network.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from trainer.images.decode import decode
from trainer.images.picture import Limits
from trainer.model.prediction import judge
from trainer.model.preprocess import preprocess
from trainer.model.weights import Weights, read_weights

Row = tuple[str, str | None, float | None, float]  # name, label, confidence, probability of the last class


def script(weights: Weights, paths: list[Path], sink: sqlite3.Connection, device: str = "cpu") -> None:
    """The script of the usual kind: one image after the other, one commit per row."""
    import torch

    from trainer.networks.loading import load

    network = load(weights).to(device)
    for path in paths:
        with torch.inference_mode():
            picture = torch.from_numpy(read(path, weights)[None, None]).to(device)
            logits, features, _ = network(picture)
        store(sink, rows([path], logits.cpu().numpy(), features.cpu().numpy(), weights))


def loader(weights: Weights, paths: list[Path], sink: sqlite3.Connection, device: str = "cpu") -> None:
    """The good script: DataLoader, batch 64, channels_last, one commit per batch.

    On a CPU 2 workers; for a GPU one per core, and pinned memory.
    """
    import torch
    from torch.utils.data import DataLoader, Dataset

    from trainer.networks.loading import load

    class Slices(Dataset[tuple[int, Any]]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, place: int) -> tuple[int, Any]:
            return place, torch.from_numpy(read(paths[place], weights)[None])

    network = load(weights).to(device).to(memory_format=torch.channels_last)
    gpu = device != "cpu"
    workers = len(os.sched_getaffinity(0)) if gpu else 2
    for places, batch in DataLoader(Slices(), batch_size=64, num_workers=workers, pin_memory=gpu):
        with torch.inference_mode():
            logits, features, _ = network(batch.to(device, non_blocking=True))
        named = [paths[int(place)] for place in places]
        store(sink, rows(named, logits.cpu().numpy(), features.cpu().numpy(), weights))


def onnx(weights: Weights, paths: list[Path], sink: sqlite3.Connection) -> None:
    """ONNX Runtime: the model is exported beforehand, two threads, batch 16."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(weights.path.with_suffix(".onnx")), options, ["CPUExecutionProvider"]
    )
    _in_threads(weights, paths, sink, lambda: lambda batch: session.run(None, {"pictures": batch}))


def sketch(weights: Weights, paths: list[Path], sink: sqlite3.Connection, precision: str = "f32") -> None:
    """The sketch: two threads, OpenVINO, batch 16, batched commits."""
    import openvino

    core = openvino.Core()
    core.set_property({"CACHE_DIR": str(weights.path.parent / "sketch-cache")})
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}

    def opened() -> Callable[[Any], Sequence[Any]]:
        # A model per thread: requests of one model, called from two threads, have waited for each
        # other for ever, one holding the interpreter's lock and one the model's.
        model = core.compile_model(str(weights.path.with_suffix(".xml")), "CPU", settings)
        request = model.create_infer_request()
        return lambda batch: [np.array(value) for value in request.infer([batch]).values()]

    _in_threads(weights, paths, sink, opened)


def sketch_bf16(weights: Weights, paths: list[Path], sink: sqlite3.Connection) -> None:
    """The sketch in bf16: the best of the others."""
    sketch(weights, paths, sink, "bf16")


CONTENDERS: dict[str, Callable[..., None]] = {
    one.__name__: one for one in (script, loader, onnx, sketch, sketch_bf16)
}
ON_DEVICE = ("script", "loader")  # the others are for a CPU


def read(path: Path, weights: Weights) -> Any:
    """Return one file as the network's input (S, S) uint8."""
    how = weights.spec.preprocessing
    return preprocess(decode(path.read_bytes(), Limits(), how.image_size).slices[0].image, how)


def rows(paths: Iterable[Path], logits: Any, features: Any, weights: Weights) -> list[Row]:
    """Return the rows of one batch."""
    said = judge(logits, features, weights.spec, weights.tensors)
    return [
        (path.name, one.label, one.confidence, one.probabilities[-1])
        for path, one in zip(paths, said, strict=True)
    ]


def store(sink: sqlite3.Connection, batch: list[Row]) -> None:
    """Store rows in one transaction."""
    with sink:
        sink.executemany("INSERT INTO result VALUES (?, ?, ?, ?)", batch)


def export(weights: Weights, folder: Path) -> Weights:
    """Write the forms of the model that the contenders open, beside a copy of the weights."""
    import openvino
    import torch

    from trainer.networks.loading import load

    copy = folder / "model.safetensors"
    copy.write_bytes(weights.path.read_bytes())
    network = load(weights)
    size = weights.spec.preprocessing.image_size
    example = torch.zeros(2, 1, size, size, dtype=torch.uint8)
    converted = openvino.convert_model(
        network, example_input=example, input=[([-1, 1, size, size], np.uint8)]
    )
    openvino.save_model(converted, str(copy.with_suffix(".xml")), compress_to_fp16=False)
    torch.onnx.export(
        network, (example,), str(copy.with_suffix(".onnx")), input_names=["pictures"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
    )  # fmt: skip
    return read_weights(copy)


def _in_threads(
    weights: Weights,
    paths: list[Path],
    sink: sqlite3.Connection,
    opened: Callable[[], Callable[[Any], Sequence[Any]]],
) -> None:
    own = threading.local()

    def work(part: list[Path]) -> list[Row]:
        if not hasattr(own, "infer"):
            own.infer = opened()  # one request per thread
        batch = np.stack([read(path, weights) for path in part])[:, None]
        logits, features = own.infer(batch)[:2]
        return rows(part, logits, features, weights)

    parts = [paths[at : at + 16] for at in range(0, len(paths), 16)]
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(work, parts):
            store(sink, done)


def main(arguments: Sequence[str]) -> None:
    """Run one contender over a folder."""
    name, weights, folder, database = arguments[:4]
    device = {"device": arguments[4]} if len(arguments) > 4 and name in ON_DEVICE else {}
    sink = sqlite3.connect(database)
    sink.execute("PRAGMA journal_mode = WAL")
    sink.execute("CREATE TABLE result (file TEXT, label TEXT, confidence REAL, last REAL)")
    CONTENDERS[name](read_weights(Path(weights)), sorted(Path(folder).iterdir()), sink, **device)
    sink.close()


if __name__ == "__main__":
    main(sys.argv[1:])
