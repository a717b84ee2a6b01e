"""Measure what a receiver of notifications that hangs costs a daemon: whole daemons, in turns.

    python -m tests.benchmark.notify [IMAGES] [ROUNDS]

Prints as JSON the medians with and without `--notify`, `--notify-when` and `--ping` to a receiver that never
answers. Seconds are from the first stored row to the last; the end, which waits 3 s for such a receiver, is
not part of them. CPU is the process tree's, its start included.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from config.paths import cache_folder
from daemon.process import child_environment
from tests.benchmark.files import fill
from tests.benchmark.measure import run
from tests.support.webhooks import Webhooks, webhooks


def measured(images: int, rounds: int) -> dict[str, Any]:
    """Return the medians of each side, and with over without."""
    seconds: dict[str, list[float]] = {"without": [], "hanging": []}
    cpu: dict[str, list[float]] = {"without": [], "hanging": []}
    with tempfile.TemporaryDirectory() as name, webhooks() as hooks:
        hooks.answer = 0
        place = Path(name)
        fill(place / "inbox", images, 224, None)
        _one(place, "warm", [])
        for number in range(rounds):
            for side, options in (("without", []), ("hanging", _options(hooks))):
                took, used = _one(place, f"{side}-{number}", options)
                seconds[side].append(took)
                cpu[side].append(used)
        asked = len(hooks.asked)
    found = {
        side: {"images_per_second": images / median(seconds[side]), "cpu_seconds": median(cpu[side])}
        for side in seconds
    }
    return {
        "images": images,
        "rounds": rounds,
        "requests_that_hung": asked,
        **found,
        "throughput_ratio": median(seconds["without"]) / median(seconds["hanging"]),
        "cpu_ratio": median(cpu["hanging"]) / median(cpu["without"]),
    }


def _options(hooks: Webhooks) -> list[str]:
    return ["--notify", hooks.address, "--ping", hooks.address, "--notify-when", "yes,no"]


def _one(place: Path, name: str, options: list[str]) -> tuple[float, float]:
    """Return seconds between the first and the last row, and CPU-seconds."""
    database = place / f"{name}.db"
    command = [sys.executable, "-m", "daemon.cli", "watch", str(place / "inbox"), "--once"]
    command += ["--db", str(database), "--cache", str(cache_folder()), *options]
    cost = run(command, place / f"{name}.log", child_environment())
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT (max(completed_us) - min(completed_us)) / 1e6 FROM result"
        return float(connection.execute(query).fetchone()[0]), cost.cpu_seconds


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    print(json.dumps(measured(*[*arguments, *(4000, 5)[len(arguments) :]]), indent=2))
