"""Workers of one lane each against as many lanes of the daemon's own, on real images; rows are compared.

    python -m tests.benchmark.remote_lanes [--lanes 2] [--images 2000] [--repeat 3] [--json FILE]

The workers are `bt-daemon worker` on loopback with TLS. Both are ready before the images come; measured is
from their coming until the last row, the two in turns. Every row must be equal but for its times. With as
many lanes as cores the daemon, Dask and the workers' own loops take their time from the lanes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmark.files import fill
from tests.conftest import REPOSITORY, SHARED
from tests.support.daemons import bt_daemon, count, rows, running, until
from tests.support.remote_workers import free_port

_LEAST_SHARE = 0.9
_TIMES = {"id", "time", "duration_us", "inbox"}  # of a row: what two runs may differ in


def main() -> int:
    """Measure, compare, and return 0 if all rows are equal and the speed is within a tenth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    place = options.json or REPOSITORY / "tests" / "measured" / f"remote-lanes-{options.lanes}.json"
    with tempfile.TemporaryDirectory(prefix="bt-remote-") as name:
        told = _compared(Path(name), options.images, options.repeat, options.lanes)
    print(json.dumps(told, indent=1))
    place.write_text(json.dumps(told, indent=1) + "\n")
    return int(bool(told["rows_that_differ"]) or told["remote_to_local"] < _LEAST_SHARE)


def _compared(folder: Path, images: int, repeat: int, lanes: int) -> dict[str, Any]:
    key = folder / "workers.pem"
    bt_daemon("worker", "--make-key", key)
    data = SHARED / "data"
    source = fill(folder / "pool", images + 1, 224, data if data.is_dir() else None)
    speeds: dict[str, list[float]] = {"local": [], "remote": []}
    answers: dict[str, list[dict[str, Any]]] = {}
    chance = random.Random(0)
    for number in range(repeat):
        for kind in chance.sample(list(speeds), 2):
            speed, found = _run(
                folder / f"{kind}-{number}", folder / "pool", lanes, key if kind == "remote" else None
            )
            speeds[kind].append(round(speed, 1))
            answers[kind] = found
    local, remote = answers["local"], answers["remote"]
    differ = sum(one != other for one, other in zip(local, remote, strict=False))
    return {
        "command": " ".join(["python -m tests.benchmark.remote_lanes", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "images": source,
        "images_per_second": speeds,
        "remote_to_local": round(median(speeds["remote"]) / median(speeds["local"]), 3),
        "rows": len(local),
        "rows_that_differ": differ + abs(len(local) - len(remote)),
    }


def _run(folder: Path, pool: Path, lanes: int, key: Path | None) -> tuple[float, list[dict[str, Any]]]:
    """Return images a second of lanes, or of workers that have a key, and rows without what may differ."""
    inbox, staged, database = folder / "inbox", folder / "staged", folder / "results.db"
    inbox.mkdir(parents=True)
    staged.mkdir()
    for file in pool.iterdir():
        os.link(file, staged / file.name)
    images = len(list(staged.iterdir())) - 1
    (staged / "000000.jpg").rename(inbox / "first.jpg")
    address = f"tls://127.0.0.1:{free_port()}"
    chosen: list[str | Path] = ["--lanes", str(lanes)]
    if key is not None:
        chosen = ["--lanes", "none", "--workers", address, "--workers-key", key]
    with ExitStack() as stack:
        stack.enter_context(running(inbox, *chosen, database=database, watching=False))
        if key is not None:
            for number in range(lanes):
                stack.enter_context(_worker(address, key, folder / f"worker-{number}.log"))
        until(lambda: count(database) == 1, 120)
        time.sleep(1.0)  # the other lane is ready too
        began = time.monotonic()
        staged.rename(inbox / "images")
        until(lambda: count(database) == images + 1, 900)
        wall = time.monotonic() - began
    found = [{key: row[key] for key in row if key not in _TIMES} for row in rows(database)]
    for row in found:
        row["file"] = row["file"].replace(str(inbox), "")
    return images / wall, sorted(found, key=lambda row: row["file"])


@contextmanager
def _worker(address: str, key: Path, log: Path) -> Iterator[None]:
    """Run `bt-daemon worker` with one lane until the block ends."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon.cli", "worker", address, "--workers-key", key, "--lanes", "1"],
            cwd=REPOSITORY,
            stdout=stream,
            stderr=stream,
            start_new_session=True,  # scheduled as the daemon is
        )
    try:
        until(lambda: "joined" in log.read_text() or process.poll() is not None)
        yield
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    sys.exit(main())
