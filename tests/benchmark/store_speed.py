"""How many images a second the one writer can store, and what a turn asks of the database.

    python -m tests.benchmark.store_speed [--images 20_000] [--batch 32] [--db URL ...] [--json FILE]

As the service does it: each turn takes up a batch of new files and stores the batch before, in one
transaction; nothing is inferred. Each database is asked in turn, one in a file and those of `--db`, which
must be empty. Round trips are counted at SQLAlchemy: statements, and the end of each transaction.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from storage.database import open_writer, reading
from storage.ledger.ledger import Ledger
from storage.ledger.series_keeper import SeriesReading
from storage.records import FileVersion, Judged, Outcome, SeriesKeys, Status
from tests.support.series import SERIES_MODEL
from trainer.model.series_rule import SeriesRule

_FOLDER_FILES = 200


def main() -> int:
    """Measure, print, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.store_speed")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=32, help="images of a turn")
    parser.add_argument("--db", action="append", default=[], help="a PostgreSQL URL, empty")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bt-store-speed-") as name:
        told = []
        for target in [str(Path(name) / "results.db"), *options.db]:
            for series in (False, True):
                told.append(_measured(target, options.images, options.batch, series=series))
                print(json.dumps(told[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


def _measured(target: str, images: int, batch: int, *, series: bool) -> dict[str, Any]:
    with closing(open_writer(target, sole=True)) as connection:
        asked, session = _Asked(connection), _session(connection)
        ledger = Ledger(connection, series=SeriesReading(SeriesRule.from_json) if series else None)
        root = f"/srv/{'series' if series else 'images'}".encode()
        inbox_id, model_id = ledger.inbox_id(root), ledger.model_id(SERIES_MODEL)
        with ledger.transaction():
            ledger.series.secret()
        asked.trips = turns = 0
        began, cpu, served = time.perf_counter(), time.process_time(), _cpu_seconds(session)
        outcomes: list[Outcome] = []
        for first in range(0, images + batch, batch):
            numbers = range(first, min(first + batch, images))
            found = [_version(inbox_id, number) for number in numbers]
            with ledger.transaction():
                entries = ledger.add(found)
                ledger.record(outcomes, model_id)
            ledger.next_due_us()
            outcomes = [
                Outcome(entry.file_id, _judged(number, series=series), os.urandom(32), 4_000)
                for entry, number in zip(entries, numbers, strict=True)
            ]
            turns += 1
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        trips, served = asked.trips, _cpu_seconds(session) - served
    return {
        "database": connection.dialect.name,
        "series": series,
        "images": images,
        "batch": batch,
        "images_per_second": round(images / seconds),
        "cpu_ms_per_image": round(cpu / images * 1e3, 4),
        "cpu_ms_per_image_of_the_server": round(served / images * 1e3, 4),
        "round_trips_per_turn": round(trips / turns, 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _session(connection: sa.Connection) -> psutil.Process | None:
    """Return the server's process of a connection, if it runs on this machine."""
    if connection.dialect.name == "sqlite":
        return None
    with reading(connection):
        pid = int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
    return psutil.Process(pid) if psutil.pid_exists(pid) else None


def _cpu_seconds(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    spent = process.cpu_times()
    return float(spent.user + spent.system)


class _Asked:
    """Counts what is asked of a database."""

    def __init__(self, connection: sa.Connection) -> None:
        self.trips = 0
        for event in ("after_cursor_execute", "commit", "rollback"):
            sa.event.listen(connection.engine, event, self._count)

    def _count(self, *_: object) -> None:
        self.trips += 1


def _version(inbox_id: int, number: int) -> FileVersion:
    folder = f"scan-{number // _FOLDER_FILES:05}".encode()
    return FileVersion(inbox_id, folder, f"IM-{number:07}.dcm".encode(), 130_000, number, number)


def _judged(number: int, *, series: bool) -> Judged:
    score = number % 997 / 997
    keys = (
        SeriesKeys((number // _FOLDER_FILES).to_bytes(16, "big"), position=float(number)) if series else None
    )
    label = SERIES_MODEL.classes[score >= 0.5]
    return Judged(Status.OK, label, max(score, 1 - score), score=score, series=keys)


if __name__ == "__main__":
    sys.exit(main())
