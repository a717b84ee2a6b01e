"""Measures a daemon's first start (no engine in the cache, two workers, a few images) and the next one.

    python -m tests.benchmark.first_start [--repeat 6] [--images 40] [--lanes 2] [--json FILE]

Each repetition has a cache of its own. It ends with 1 if a worker was started again, if anything looks like a
traceback, if an image has no row, or if what lies in the cache changed once the engine was made: then
workers compiled for themselves.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daemon.engines.cache import MANIFEST
from daemon.process import child_environment
from tests.benchmark import measure
from tests.support.daemons import count, running, until
from trainer.images.phantom import phantom


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What one first start took and did."""

    wall_seconds: float
    cpu_seconds: float
    peak_megabytes: float  # of the whole process tree, memory that processes share counted once
    lanes_started_again: int
    tracebacks: int
    rows: int
    written_by_lanes: int  # files in the cache that are younger than the manifest
    next_ready_seconds: float  # of the start after that: until the first worker is ready


def main() -> int:
    """Measure and print; return 1 if a start was not as it should be."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="bt-first-start-") as name:
        images = Path(name) / "images"
        images.mkdir()
        for number in range(options.images):
            phantom(number, lesion=number % 2 == 0, label=False).save(images / f"{number}.png")
        starts = [
            first_start(images, Path(name) / str(number), options.lanes) for number in range(options.repeat)
        ]
    for start in starts:
        print(", ".join(f"{key} {value:,.4g}" for key, value in asdict(start).items()))
    if options.json:
        options.json.write_text(json.dumps([asdict(start) for start in starts], indent=1) + "\n")
    return int(any(trouble(start, options.images) for start in starts))


def first_start(images: Path, folder: Path, lanes: int) -> FirstStart:
    """Watch the images once with an empty cache in `folder` and return what came of it."""
    folder.mkdir()
    cache, database, log = folder / "cache", folder / "results.db", folder / "log"
    command = [
        *(sys.executable, "-m", "daemon.cli", "watch", str(images), "--once", "--log-format", "json"),
        *("--db", str(database), "--cache", str(cache), "--lanes", str(lanes)),
    ]
    cost = measure.run(command, log, child_environment())
    told = log.read_text()
    return FirstStart(
        **asdict(cost),
        lanes_started_again=_restarts(database),
        tracebacks=len(re.findall("Traceback|Error: ", told)),
        rows=count(database),
        written_by_lanes=_younger_than_manifest(cache),
        next_ready_seconds=_ready_seconds(folder, cache, lanes),
    )


def _ready_seconds(folder: Path, cache: Path, lanes: int) -> float:
    """Return how long a start takes that finds its engine, until it says that it watches."""
    inbox = folder / "inbox"
    inbox.mkdir()
    began = time.perf_counter()
    with running(
        inbox, "--cache", cache, "--lanes", str(lanes), database=folder / "next.db", watching=False
    ) as daemon:
        until(lambda: "watching" in daemon.log.read_text())
        return time.perf_counter() - began


def trouble(start: FirstStart, images: int) -> bool:
    """Whether something went otherwise than it should."""
    return start.rows != images or bool(
        start.lanes_started_again or start.tracebacks or start.written_by_lanes
    )


def _restarts(database: Path) -> int:
    return count(database, "SELECT json_extract(snapshot, '$.lane_restarts') FROM heartbeat")


def _younger_than_manifest(cache: Path) -> int:
    (manifest,) = cache.glob(f"engines/*/{MANIFEST}")
    made = manifest.stat().st_mtime_ns
    files: list[Any] = [path for path in manifest.parent.rglob("*") if path.is_file()]
    return sum(path.stat().st_mtime_ns > made for path in files)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=6)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
