"""How storage behaves as it grows: bytes per row, cost per image, and answers over millions of rows.

    python -m tests.benchmark.results_scale --rows 1_000_000 [--json FILE]

Prints a table and, as its last line, JSON. The rows are made by the ledger itself, with names, sizes
and digests as they come in practice, spread over the last weeks. Now and then a turn is timed as the
daemon lives it: taken up, handed out and stored, each commit with its fsync.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from config.when import local_zone, microseconds, parse_when
from storage.database import open_reader, open_writer
from storage.ledger.ledger import Ledger
from storage.ledger.result_cache import KnownJudgements
from storage.queries.results import ResultRow, count, rows, summary
from storage.queries.status import status_snapshot
from storage.queries.totals import summary_by_model, totals
from storage.query import Query, Sort
from storage.records import Failed, FailureKind, FileVersion, Judged, ModelRecord, Outcome, Status
from tests.benchmark.programs_scale import ask_programs

TURN = 128  # images in a timed turn, as under a backlog
BULK = 2_048  # images in the turns that only fill
FOLDER = 5_000  # images per folder
PER_DAY = 400_000  # rows completed per day
MODEL = ModelRecord("ab" * 32, "brain-mri", "1", "openvino", "bf16", "cpu", ("no_tumour", "tumour"))


@dataclass
class Clock:
    """A clock that the benchmark moves, so that rows spread over weeks."""

    now_us: int

    def __call__(self) -> int:
        return self.now_us


@dataclass
class Figures:
    """What was measured, in the order it was."""

    values: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, value: float, unit: str) -> None:
        self.values[name] = round(value, 4)
        print(f"{name:<52} {value:>14,.3f} {unit}", flush=True)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - started, "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the database is made")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        database = Path(place) / "results.db"
        fill(database, arguments.rows, figures)
        ask(database, figures)
        ask_more(database, arguments.rows, figures)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures.add("peak memory of this process", peak, "MiB")
    told = {"rows": arguments.rows, **figures.values}
    print(json.dumps(told))
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")


def fill(database: Path, total: int, figures: Figures) -> None:
    """Store `total` results through the ledger, the last of them now."""
    step_us = 86_400_000_000 // PER_DAY
    clock = Clock(time.time_ns() // 1000 - total * step_us)
    chance = random.Random(1)
    live = Live()
    with open_writer(database) as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        ledger = Ledger(connection, clock)
        inbox_id, model_id = ledger.inbox_id(b"/srv/scans/inbox"), ledger.model_id(MODEL)
        with figures.timed("filling"):
            start, timed = 0, True
            while start < total:
                size = min(TURN if timed else BULK, total - start)
                # The filling itself needs no fsync; the timed turns have theirs.
                driver.execute(f"PRAGMA synchronous = {'FULL' if timed else 'OFF'}")
                clock.now_us += size * step_us
                versions = [made(inbox_id, number) for number in range(start, start + size)]
                turn(ledger, model_id, versions, chance, live if timed else Live())
                start, timed = start + size, not timed
        figures.add("one image: processor time of the ledger", live.cpu / live.images * 1e6, "us")
        figures.add("one image: with the commit's fsync", live.wall / live.images * 1e6, "us")
        rescan(ledger, [made(inbox_id, number) for number in range(max(0, total - 100_000), total)], figures)
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    figures.add("one row on disk, indexes and ledger included", database.stat().st_size / total, "bytes")


@dataclass
class Live:
    """What the timed turns cost together."""

    images: int = 0
    cpu: float = 0.0
    wall: float = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu += time.process_time() - cpu
        self.wall += time.perf_counter() - wall


def turn(
    ledger: Ledger, model_id: int, versions: list[FileVersion], chance: random.Random, live: Live
) -> None:
    """Take up, hand out and store one turn's images, as the daemon does."""
    with live.measured():
        ledger.add(versions)
        entries = ledger.due(len(versions), 1 << 60)
    outcomes = [judged(entry.file_id, chance) for entry in entries]
    with live.measured():
        ledger.record(outcomes, model_id)
    live.images += len(versions)


def made(inbox_id: int, number: int) -> FileVersion:
    """Return the version of image `number`: the same each time it is asked for."""
    name = b"IM-%04d-%08d-axial.jpg" % (number % 9973, number)  # 26 bytes
    mtime_ns = 1_760_000_000_000_000_000 + number * 216_000_017
    inode = 5_000_000 + number
    return FileVersion(
        inbox_id, b"2026/%05d" % (number // FOLDER), name, 7_000 + number % 23_000, mtime_ns, inode
    )


def judged(file_id: int, chance: random.Random) -> Outcome:
    digest = hashlib.sha256(b"%d" % file_id).digest()
    drawn = chance.random()
    if drawn < 0.002:
        failed = Failed(FailureKind.PERMANENT, "the image is truncated")
        return Outcome(file_id, failed, digest, 900)
    label = "tumour" if drawn < 0.2 else "no_tumour"
    status = Status.UNCERTAIN if drawn > 0.97 else Status.OK
    return Outcome(file_id, Judged(status, label, 0.5 + chance.random() / 2), digest, 1_500 + file_id % 700)


def rescan(ledger: Ledger, held: list[FileVersion], figures: Figures) -> None:
    cpu = time.process_time()
    unknown = ledger.unknown(held)
    figures.add(f"rescan of {len(held):,} known files, processor time", time.process_time() - cpu, "s")
    assert not unknown


def ask(database: Path, figures: Figures) -> None:
    """Time what people ask, each question on a connection of its own, as a command asks it."""
    now = datetime.now(UTC)
    since_us = microseconds(parse_when("today", now, local_zone()))
    week_us = microseconds(now - timedelta(days=7, seconds=12.3))
    rejected = Query(statuses=(Status.ERROR,), limit=50)
    questions: dict[str, Callable[[sa.Connection], object]] = {
        "results --since today: first page": lambda c: page(c, Query(since_us=since_us, limit=50)),
        "results --since today: count": lambda c: count(c, Query(since_us=since_us)),
        "results: first page of all": lambda c: page(c, Query(limit=50)),
        "results: count of all": count,
        "results: count of all images": lambda c: totals(c, Query()),
        "results --summary: of all": lambda c: summary_by_model(c, Query()),
        "results --since 7d --summary": lambda c: summary(c, Query(since_us=week_us)),
        "results --status error: first page": lambda c: page(c, rejected),
        "results --class of nobody: first page": lambda c: page(c, Query(labels=("nobody",), limit=50)),
        "results behind a key 7 days ago": lambda c: page(c, Query(limit=50, after=(week_us, 1 << 60))),
        "results --since today --sort confidence": lambda c: page(
            c, Query(since_us=since_us, limit=50, sort=Sort.CONFIDENCE)
        ),
        "results --since today --sort doubt": lambda c: page(
            c, Query(since_us=since_us, limit=50, sort=Sort.DOUBT)
        ),
        "results --since today -q TEXT: count": lambda c: count(c, Query(since_us=since_us, text="17-AX")),
        "status": lambda c: status_snapshot(c, time.time_ns() // 1000),
        "100,000 rows streamed": lambda c: sum(1 for _ in rows(c, Query(limit=100_000))),
    }
    for name, question in questions.items():
        with figures.timed(name), open_reader(database) as connection:
            question(connection)
    look_up(database, figures)


def ask_more(database: Path, total: int, figures: Figures) -> None:
    """Time whole programs, and what reading costs a writer meanwhile."""
    numbers = itertools.count(total)

    def store_one() -> None:
        with open_writer(database) as connection:
            ledger = Ledger(connection)
            inbox_id, model_id = ledger.inbox_id(b"/srv/scans/inbox"), ledger.model_id(MODEL)
            turn(ledger, model_id, [made(inbox_id, next(numbers))], random.Random(2), Live())

    ask_programs(database, figures.add, store_one)


def page(connection: sa.Connection, query: Query) -> list[ResultRow]:
    return list(rows(connection, query))


def look_up(database: Path, figures: Figures) -> None:
    digests = [hashlib.sha256(b"%d" % number).digest() for number in range(1, 1_001)]
    with KnownJudgements(database, 1) as known:
        started = time.perf_counter()
        found = known.find(digests)
        figures.add("one look-up of identical bytes", (time.perf_counter() - started) * 1e3, "us")
    assert len(found) > 900


if __name__ == "__main__":
    main()
