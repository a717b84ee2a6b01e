"""What a scan of very many known files costs, and how much memory very many waiting ones take.

    python -m tests.benchmark.rescan [--files 100000] [--json FILE]

CPU-seconds of a whole scan over files that the ledger knows (the median of several), and the growth
of resident memory, in MB, while as many files wait for their settle time.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from daemon.inbox.inbox import Inbox, InboxRules
from storage.database import open_writer
from storage.ledger.ledger import Ledger

_PER_FOLDER = 1_000
_SCANS = 5
_NEVER_SECONDS = 1e6


class _MachineClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def now_us(self) -> int:
        return time.time_ns() // 1000


def main() -> int:
    """Measure, print, and return 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bt-rescan-") as name:
        told = _measured(Path(name), options.files)
    print(json.dumps(told))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


def _measured(folder: Path, files: int) -> dict[str, Any]:
    root = folder / "inbox"
    for number in range(files):
        path = root / str(number // _PER_FOLDER) / f"slice_{number:07}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content %d" % number)
    writer = open_writer(folder / "results.db")
    ledger = Ledger(writer)
    number = ledger.inbox_id(os.fsencode(root))

    def inbox(settle_seconds: float) -> Inbox:
        rules = InboxRules(settle_seconds=settle_seconds, rescan_seconds=_NEVER_SECONDS)
        return Inbox(
            os.fsencode(root), number, rules,
            unknown=ledger.unknown, wake=lambda: None, clock=_MachineClock(), log=logging.getLogger("rescan"),
        )  # fmt: skip

    process = psutil.Process()
    before = process.memory_info().rss
    with inbox(_NEVER_SECONDS) as waiting:
        waiting.start()
        while waiting.health().last_scan_seconds is None:
            waiting.step()
        held = waiting.health().waiting
        grown = process.memory_info().rss - before
    with inbox(0.1) as first:
        first.start()
        while not first.idle():
            ledger.add(first.step())
    costs, longest = [], 0.0
    for _ in range(_SCANS):
        with inbox(0.1) as again:
            again.start()
            began = time.process_time()
            while not again.idle():
                step = time.monotonic()
                if again.step():
                    raise SystemExit("a known file was handed over again")
                longest = max(longest, time.monotonic() - step)
            costs.append(time.process_time() - began)
    writer.close()
    return {
        "files": files, "waiting": held, "waiting_megabytes": round(grown / 1e6, 1),
        "rescan_cpu_seconds": [round(cost, 2) for cost in costs],
        "rescan_cpu_seconds_median": round(median(costs), 2), "longest_step_ms": round(longest * 1e3, 1),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
