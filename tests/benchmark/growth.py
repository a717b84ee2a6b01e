"""How time and memory grow with the number of files: CPU per image must not.

    python -m tests.benchmark.growth [--counts 1000 10000 100000] [--side 224] [--json FILE]

A fresh process and a fresh database per count; real slices where they are, every file different. What
a larger count costs beyond the smallest, per further image, is the slope: the start does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import tempfile
from pathlib import Path

from daemon.process import child_environment
from tests.benchmark import measure
from tests.benchmark.files import fill
from tests.conftest import SHARED


def main() -> int:
    """Measure, print, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.growth")
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bt-growth-") as name:
        told = [_measured(Path(name), count, options.side) for count in [200, *sorted(options.counts)]]
    told = told[1:]  # the first run only warms the cache
    smallest = told[0]
    for one in told:
        print(
            f"{one['images']:>9,} images: {one['cpu_ms_per_image']:.2f} ms of CPU each, "
            f"{one['images_per_second']:,.0f} images/s, {one['peak_megabytes']:.0f} MB, "
            f"{one['database_bytes_per_row']} bytes a row"
        )
        more = one["images"] - smallest["images"]
        if more:
            slope = (one["cpu_seconds"] - smallest["cpu_seconds"]) / more * 1e3
            one["cpu_ms_per_further_image"] = round(slope, 3)
            print(f"{'':>9}  {slope:.2f} ms of CPU for each further image")
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


def _measured(folder: Path, count: int, side: int) -> dict[str, float]:
    images, database = folder / f"images-{count}", folder / f"{count}.db"
    fill(images, count, side, SHARED / "data" if (SHARED / "data").is_dir() else None)
    environment = {
        **os.environ, "BT_CACHE": str(folder / "cache"), "PYTHONPATH": child_environment()["PYTHONPATH"]
    }  # fmt: skip
    command = [sys.executable, "-m", "daemon.cli", "watch", str(images), "--once", "--db", str(database)]
    cost = measure.run(command, folder / f"{count}.log", environment)
    connection = sqlite3.connect(database)
    (rows,) = connection.execute("SELECT count(*) FROM result").fetchone()
    connection.close()
    if rows != count:
        raise SystemExit(f"{rows} rows for {count} files")
    for path in images.iterdir():
        path.unlink()
    return {
        "images": count,
        "cpu_seconds": round(cost.cpu_seconds, 2),
        "cpu_ms_per_image": round(cost.cpu_seconds / count * 1e3, 3),
        "images_per_second": round(count / cost.wall_seconds, 1),
        "peak_megabytes": round(cost.peak_megabytes, 1),
        "database_bytes_per_row": round(database.stat().st_size / count),
    }


if __name__ == "__main__":
    sys.exit(main())
