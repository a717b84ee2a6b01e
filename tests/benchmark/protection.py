"""What it costs that a decoder may hang, grow or die without harm.

    python -m tests.benchmark.protection [--count 4000] [--repeat 3] [--json FILE]

The same images through the same code, by one worker called directly in this kind of process, and by one
worker in a process of its own that is watched, limited and replaced: images/s of each, and the ratio.
"""

from __future__ import annotations

import argparse
import json
import logging
import mmap
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import wait
from pathlib import Path
from statistics import median

from daemon.engines.cache import prepare_engine
from daemon.process import child_environment
from daemon.workers.messages import PROGRESS, Task, WorkerSetup
from daemon.workers.pool import WorkerPool
from daemon.workers.worker import Worker
from tests.benchmark.files import fill
from tests.conftest import SHARED
from trainer.images.picture import Limits
from trainer.model.identity import default_weights

_WAYS = ("bare", "protected")
_DECODE_SECONDS = 10.0
_MEMORY_BYTES = 2 << 30


def main() -> int:
    """Measure both ways in turn, print the ratio, and return 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        way, folder = options.measure
        print(_bare(Path(folder)) if way == "bare" else _protected(Path(folder)))
        return 0
    speeds: dict[str, list[float]] = {way: [] for way in _WAYS}
    with tempfile.TemporaryDirectory(prefix="bt-protection-") as name:
        data = SHARED / "data"
        fill(Path(name) / "images", options.count, 224, data if data.is_dir() else None)
        for repetition in range(-1, options.repeat):  # the first only warms
            for way in _WAYS if repetition % 2 else reversed(_WAYS):
                speed = _measured(way, Path(name))
                if repetition >= 0:
                    speeds[way].append(round(speed, 1))
    ratio = median(speeds["protected"]) / median(speeds["bare"])
    told = {"images": options.count, "images_per_second": speeds, "protected_to_bare": round(ratio, 3)}
    print(json.dumps(told))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


def _measured(way: str, folder: Path) -> float:
    command = [sys.executable, "-m", "tests.benchmark.protection", "--measure", way, str(folder)]
    return float(subprocess.run(command, capture_output=True, check=True, env=child_environment()).stdout)


def _setup(folder: Path) -> tuple[WorkerSetup, list[Task]]:
    prepared, _ = prepare_engine(
        default_weights(), "cpu", "auto", folder / "cache", logging.getLogger("protection")
    )
    tasks = []
    for number, path in enumerate(sorted((folder / "images").iterdir())):
        found = path.stat()
        tasks.append(Task(number, os.fsencode(path), found.st_size, found.st_mtime_ns, found.st_ino))
    return WorkerSetup(prepared, Limits(), 8, _MEMORY_BYTES), tasks


def _bare(folder: Path) -> float:
    """Return images/s of a worker that this process calls itself."""
    setup, tasks = _setup(folder)
    lane = Worker(setup, mmap.mmap(-1, PROGRESS.size))
    lane.work(tasks[: setup.tasks])
    began = time.monotonic()
    for at in range(0, len(tasks), setup.tasks):
        lane.work(tasks[at : at + setup.tasks])
    return len(tasks) / (time.monotonic() - began)


def _protected(folder: Path) -> float:
    """Return images/s of a worker in a process of its own."""
    setup, tasks = _setup(folder)
    with WorkerPool(1, setup, decode_seconds=_DECODE_SECONDS) as lanes:
        _judge(lanes, tasks[: setup.tasks])
        began = time.monotonic()
        _judge(lanes, tasks)
        return len(tasks) / (time.monotonic() - began)


def _judge(lanes: WorkerPool, tasks: list[Task]) -> None:
    sent = done = 0
    while done < len(tasks):
        if room := lanes.room(len(tasks) - sent):
            lanes.submit(tasks[sent : sent + room])
            sent = min(len(tasks), sent + room)
        wait(lanes.waitables(), max(0.0, min(1.0, lanes.next_deadline() - time.monotonic())))
        done += len(lanes.collect())


if __name__ == "__main__":
    sys.exit(main())
