"""What keeping series up to date costs: whole daemons in turns, and one long series slice by slice.

    python -m tests.benchmark.series_upkeep [--images 2000] [--rounds 5] [--json FILE]

Daemons judge the same pictures, 33 of them a series, once with the pattern that says so and once without.
The long series is written as a daemon writes one whose slices arrive in random order, each on its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

from storage.records import Outcome
from tests.benchmark.files import fill
from tests.conftest import SHARED
from tests.support.daemons import bt_daemon, count
from tests.support.series import keys, open_series_store, slice_of

_PATTERN = r"^(?P<series>s\d+)_(?P<position>\d+)"
_SLICES = 33
_LONG = 2_000
_PART = 200


def main() -> int:
    """Measure both and print them; return 1 if a row is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bt-series-") as name:
        told["long_series"] = _long_series(Path(name) / "long.db")
        told["daemons"] = _daemons(Path(name), options.images, options.rounds, options.side)
    print(json.dumps(told, indent=1))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return int(not told["daemons"]["complete"])


def _long_series(database: Path) -> dict[str, Any]:
    """Return what a slice takes, milliseconds, at the beginning and the end of a series, and without one."""
    chance = random.Random(0)
    positions = chance.sample(range(_LONG), _LONG)
    store = open_series_store(database)
    entries = store.add(*(b"%d.dcm" % number for number in positions))
    others = store.add(*(b"other-%d.dcm" % number for number in positions))
    series: list[float] = []
    alone: list[float] = []
    for entry, other, position in zip(entries, others, positions, strict=True):
        for spent, one, part_of in ((series, entry, keys(1, float(position))), (alone, other, None)):
            began = time.perf_counter()
            judged = slice_of(part_of, chance.random())
            store.ledger.record([Outcome(one.file_id, judged, None, 1_000)], store.model_id)
            spent.append((time.perf_counter() - began) * 1e3)
    store.close()
    return {
        "slices": _LONG,
        "median_ms_of_the_first": round(median(series[:_PART]), 3),
        "median_ms_of_the_last": round(median(series[-_PART:]), 3),
        "median_ms_without_a_series": round(median(alone), 3),
    }


def _daemons(folder: Path, images: int, rounds: int, side: int) -> dict[str, Any]:
    data = SHARED / "data"
    fill(folder / "inbox", images, side, data if data.is_dir() else None)
    for number, name in enumerate(sorted(os.listdir(folder / "inbox"))):
        image = folder / "inbox" / name
        image.rename(image.with_name(f"s{number // _SLICES:04}_{number % _SLICES:03}{image.suffix}"))
    spent: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
    complete = True
    for number in range(rounds + 1):
        for kind in ("without", "with") if number % 2 else ("with", "without"):
            database = folder / f"{kind}-{number}.db"
            taken = _run(folder / "inbox", database, ["--series", _PATTERN] if kind == "with" else [])
            complete &= count(database) == images
            if number:  # the first round fills caches
                spent[kind].append(taken)
    found: dict[str, Any] = {"images": images, "rounds": rounds, "complete": complete}
    for place, what in enumerate(("wall", "cpu")):
        without = mean(taken[place] for taken in spent["without"])
        kept = mean(taken[place] for taken in spent["with"])
        found[f"{what}_seconds_without"] = round(without, 3)
        found[f"{what}_seconds_with"] = round(kept, 3)
        found[f"{what}_ratio"] = round(kept / without, 4)
    return found


def _run(inbox: Path, database: Path, options: list[str]) -> tuple[float, float]:
    """Return seconds of wall and of CPU that a whole daemon takes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = bt_daemon("watch", inbox, "--once", "--db", database, *options, timeout=900)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
