"""How fast bt-daemon is beside other programs and beside the machine's limit.

    python -m tests.benchmark [--count 4000] [--side 224] [--repeat 3] [--device cuda] [--json FILE]

A fresh process per contender and repetition, interleaved, after one unmeasured run that warms caches.
bt-daemon runs twice per round (A and A'): their difference is the noise. Nothing is timed for a
contender whose rows are not one per file with the reference's labels. With `--device cuda` bt-daemon and
the contenders through torch use the GPU, the others the CPU as always.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from config.errors import BtError
from daemon.engines.cache import pick_device
from daemon.process import child_environment
from tests.benchmark import contenders, measure
from tests.benchmark.files import fill
from tests.benchmark.limit import limit
from tests.conftest import SHARED
from trainer.model.identity import default_weights
from trainer.model.weights import Weights, read_weights

_CLEAR = 0.02  # an image nearer to the threshold may get either label
_OURS = ("bt-daemon", "bt-daemon again", "bt-daemon heatmaps")  # the last also draws one for every image


def main() -> int:
    """Measure and print; return 1 if a contender gave other answers than the reference."""
    try:
        options = _options()
    except BtError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    with tempfile.TemporaryDirectory(prefix="bt-benchmark-") as name:
        return _measure(options, Path(name))


def _measure(options: argparse.Namespace, folder: Path) -> int:
    images = folder / "images"
    data = SHARED / "data"
    print(fill(images, options.count, options.side, data if data.is_dir() else None))
    weights = contenders.export(read_weights(options.weights), folder)
    names = [*options.contenders, *_OURS]
    reference = _reference(weights, images, folder)
    costs: dict[str, list[measure.Cost]] = {name: [] for name in names}
    wrong: dict[str, str] = {}
    order = random.Random(0)
    for repetition in range(-1, options.repeat):
        for name in order.sample(names, len(names)):
            if name in wrong:
                continue
            database = folder / f"{name}.{repetition}.db".replace(" ", "-")
            try:
                cost = _run(name, weights, images, database, options.device)
            except TimeoutError as error:
                wrong[name] = str(error)
                continue
            if repetition >= 0:
                costs[name].append(cost)
            elif problem := _gate(_rows(name, database), reference, weights):
                wrong[name] = problem
    bound = limit(weights.path, images, folder / "cache", len(os.sched_getaffinity(0)), options.device)
    _report(options, costs, wrong, bound)
    return 1 if wrong else 0


def _run(name: str, weights: Weights, images: Path, database: Path, device: str = "cpu") -> measure.Cost:
    environment = {**os.environ, "BT_CACHE": str(weights.path.parent / "cache")}
    if name in _OURS:
        command = ["-m", "daemon.cli", "watch", str(images), "--once", "--db", str(database)]
        command += ["--weights", str(weights.path), "--device", device]
        if name == "bt-daemon heatmaps":
            command += ["--heatmaps", str(database.with_suffix(".heatmaps"))]
    else:
        command = [
            "-m",
            "tests.benchmark.contenders",
            name,
            str(weights.path),
            str(images),
            str(database),
            device,
        ]
    environment["PYTHONPATH"] = child_environment()["PYTHONPATH"]
    return measure.run([sys.executable, *command], database.with_suffix(".log"), environment)


def _reference(weights: Weights, images: Path, folder: Path) -> dict[str, tuple[str | None, float]]:
    """Return label and probability of the last class by the network in torch, float32, one by one."""
    database = folder / "reference.db"
    _run("script", weights, images, database)
    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT file, label, last FROM result").fetchall()
    connection.close()
    return {file: (label, last) for file, label, last in found}


def _rows(name: str, database: Path) -> list[tuple[str, str | None]]:
    query = "SELECT file, label FROM result"
    if name in _OURS:
        query = (
            "SELECT CAST(file.name AS TEXT), label.name FROM result JOIN file ON file.id = result.file_id"
            " LEFT JOIN label ON label.id = result.label_id"
        )
    connection = sqlite3.connect(database)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def _gate(
    rows: list[tuple[str, str | None]], reference: dict[str, tuple[str | None, float]], weights: Weights
) -> str:
    """Return what is wrong with a contender's rows, '' if nothing is."""
    if sorted(file for file, _ in rows) != sorted(reference):
        return f"{len(rows)} rows for {len(reference)} files"
    decision = weights.spec.decision
    threshold = decision.threshold if decision.positive else 0.5
    if decision.positive and weights.spec.classes[-1] != decision.positive:
        threshold = 1 - threshold
    differing = [
        file
        for file, label in rows
        if None not in (label, reference[file][0])  # being rejected has a limit of its own
        and label != reference[file][0]
        and abs(reference[file][1] - threshold) > _CLEAR
    ]
    return f"{len(differing)} other labels" if differing else ""


def _report(
    options: argparse.Namespace,
    costs: dict[str, list[measure.Cost]],
    wrong: dict[str, str],
    bound: dict[str, Any],
) -> None:
    speeds = {
        name: options.count / median(one.wall_seconds for one in runs) for name, runs in costs.items() if runs
    }
    ours = speeds.get(_OURS[0], float("nan"))
    print(f"{'whole process':18}{'images/s':>10}{'CPU ms/image':>14}{'peak MB':>9}{'ours is':>9}")
    for name, speed in sorted(speeds.items(), key=lambda pair: pair[1]):
        cpu = median(one.cpu_seconds for one in costs[name]) / options.count * 1e3
        peak = max(one.peak_megabytes for one in costs[name])
        print(f"{name:18}{speed:10,.0f}{cpu:14.2f}{peak:9,.0f}{ours / speed:8.2f}x")
    for name, problem in wrong.items():
        print(f"{name:18}not timed: {problem}")
    most = bound["images_per_second"]
    parts = [
        f"{part.removesuffix('_seconds').replace('_cpu', ' on one core')} {seconds * 1e3:.3f} ms"
        for part, seconds in bound.items()
        if part.endswith("_seconds")
    ]
    print(f"limit {most:,.0f} images/s, set by {bound['bound']} ({', '.join(parts)} per image)")
    print(f"efficiency {ours / most:.2f}, the start included")
    if options.json:
        runs = {
            name: [[one.wall_seconds, one.cpu_seconds, one.peak_megabytes] for one in all_runs]
            for name, all_runs in costs.items()
        }
        told = {
            "count": options.count, "side": options.side, "device": options.device,
            "runs": runs, "limit": bound, "wrong": wrong,
        }  # fmt: skip
        options.json.write_text(json.dumps(told, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark")
    parser.add_argument("--count", type=int, default=4000, help="images")
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--repeat", type=int, default=3, help="measured runs of each")
    parser.add_argument("--weights", type=Path, default=default_weights())
    parser.add_argument("--device", type=pick_device, default="cpu", help="cpu, auto or cuda[:N]")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--contenders", nargs="*", default=list(contenders.CONTENDERS))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
