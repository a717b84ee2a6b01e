"""How long an image waits: rename into the inbox until its row can be read by another process.

    python -m tests.benchmark.latency [--rates 2 100 300] [--seconds 30] [--json FILE]

Arrivals are random (Poisson) at each rate, images per second; the first is an idle daemon. Another
connection looks for new rows every millisecond, so a figure is up to about a millisecond too long.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmark.files import fill
from tests.conftest import SHARED
from tests.support.daemons import running

_LOOK_SECONDS = 0.001
_PATIENCE_SECONDS = 60.0


def main() -> int:
    """Measure every rate and print a line for each; return 1 if an image got no row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[2.0, 100.0, 300.0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    told = []
    for rate in options.rates:
        with tempfile.TemporaryDirectory(prefix="bt-latency-") as name:
            told.append(_measured(Path(name), rate, options.seconds, options.side))
        print(_line(told[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"latency": told}, indent=1) + "\n")
    return int(any(one["missing"] for one in told))


def _measured(folder: Path, rate: float, seconds: float, side: int) -> dict[str, Any]:
    count = max(20, int(rate * seconds))
    data = SHARED / "data"
    fill(folder / "ready", count + 20, side, data if data.is_dir() else None)
    inbox, database = folder / "inbox", folder / "x.db"
    inbox.mkdir()
    names = sorted(os.listdir(folder / "ready"))
    with running(inbox, database=database):
        for name in names[:20]:  # the first images of a run warm every cache
            os.replace(folder / "ready" / name, inbox / name)
        _wait_for(database, 20)
        seen: dict[str, float] = {}
        ended = threading.Event()
        watcher = threading.Thread(target=_look, args=(database, count + 20, seen, ended))
        watcher.start()
        sent = _send(folder / "ready", inbox, names[20:], rate)
        watcher.join(_PATIENCE_SECONDS)
        ended.set()
        watcher.join()
    waits = np.array([seen[name] - sent[name] for name in sent if name in seen]) * 1e3
    return {
        "images_per_second": rate,
        "images": count,
        "missing": count - len(waits),
        **{f"p{share}_ms": round(float(np.percentile(waits, share)), 1) for share in (50, 90, 99)},
        "max_ms": round(float(waits.max()), 1),
    }


def _send(ready: Path, inbox: Path, names: list[str], rate: float) -> dict[str, float]:
    """Rename the files into the inbox at random moments; return when each was there."""
    chance = random.Random(0)
    sent = {}
    due = time.monotonic() + 1.0
    for name in names:
        due += chance.expovariate(rate)
        time.sleep(max(0.0, due - time.monotonic()))
        os.replace(ready / name, inbox / name)
        sent[name] = time.monotonic()
    return sent


def _look(database: Path, wanted: int, seen: dict[str, float], ended: threading.Event) -> None:
    """Note when the row of each file is first there."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    last = 0
    while len(seen) < wanted and not ended.is_set():
        rows = connection.execute(
            "SELECT result.id, file.name FROM result JOIN file ON file.id = file_id WHERE result.id > ?"
            " ORDER BY result.id",
            (last,),
        ).fetchall()
        now = time.monotonic()
        seen |= {os.fsdecode(name): now for _, name in rows}
        last = rows[-1][0] if rows else last
        time.sleep(_LOOK_SECONDS)
    connection.close()


def _wait_for(database: Path, count: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        found = connection.execute("SELECT count(*) FROM result").fetchone()[0]
        connection.close()
        if found >= count:
            return
        time.sleep(0.1)
    raise SystemExit("the daemon judged nothing")


def _line(told: dict[str, Any]) -> str:
    return (
        f"{told['images_per_second']:g} images/s: {told['images']} images, {told['missing']} without a row, "
        f"p50 {told['p50_ms']} ms, p90 {told['p90_ms']} ms, p99 {told['p99_ms']} ms, max {told['max_ms']} ms"
    )


if __name__ == "__main__":
    sys.exit(main())
