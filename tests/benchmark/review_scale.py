"""How fast reviews are queued, counted and measured among a million rows, and what they cost the daemon.

    python -m tests.benchmark.review_scale [--rows 1_000_000] [--reviews 100_000] [--json FILE]

The rows are those of `series_scale`, the reviews are written by SQL: the doubtful images first, then the
beginning of the random order. A figure is the least of five, in seconds of wall and of CPU. What reviews
cost the daemon is the time of a turn of its ledger, at 300 images a second, beside reviewers who answer ten
images a second, and without, by turns; with it the load of the machine is told.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa

from storage.database import open_reader, open_writer
from storage.ledger.ledger import Ledger
from storage.queries.results import rows, summary
from storage.query import Query, ReviewFilter
from storage.records import FileVersion, Judged, Outcome, Status
from storage.reviews.review_figures import review_figures
from storage.reviews.review_queue import candidates, waiting
from storage.reviews.review_rows import review_rows
from storage.reviews.review_writer import ReviewWriter
from storage.schema import TALLY_SECONDS, ReviewOrigin
from tests.benchmark.series_scale import fill
from tests.conftest import REPOSITORY
from tests.support.reviews import said
from tests.support.series import SERIES_MODEL

_ROUNDS = 5
_TURN, _PACE = 64, 300  # images in one turn of the daemon, and per second
_TURNS_SECONDS = 4.0
_REVIEWERS, _PAUSE_SECONDS = 2, 0.2  # each answers five images a second
_HALF_US = 1_790_000_050_000_000  # the middle of a million rows


def main() -> None:
    """Fill a database, ask it, write to it, and print what that takes; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--reviews", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the database is made")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    told: dict[str, Any] = {"rows": options.rows, "reviews": options.reviews}
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        database = Path(place) / "results.db"
        fill(database, options.rows, max(1, options.rows // 33))
        add_reviews(database, options.reviews)
        told["seconds"] = ask(database) | answer(database)
        told |= disturb(database)
    told["load_average"] = round(os.getloadavg()[0], 1)
    for name, value in {**told.pop("seconds"), **told}.items():
        print(f"{name:<60} {value}")
        told[name] = value
    print(json.dumps(told))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")


def add_reviews(database: Path, number: int) -> None:
    """Make some results uncertain, and write reviews: nine in ten of doubtful images, else of a sample."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in _REVIEWED:
            connection.execute(statement, {"doubtful": number * 9 // 10, "drawn": number // 10})
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def ask(database: Path) -> dict[str, list[float]]:
    """Return seconds of wall and of CPU that each question takes."""
    asked: dict[str, Callable[[sa.Connection], object]] = {
        f"queue: {origin.name.lower()}": partial(candidates, query=Query(), origins=(origin,), limit=5)
        for origin in (ReviewOrigin.UNCERTAIN, ReviewOrigin.NEAR, ReviewOrigin.RANDOM)
    }
    leased = frozenset(range(1, 51))
    asked["queue: all, 50 on lease"] = partial(candidates, query=Query(), limit=5, without=leased)
    for name, query in {"": Query(), ", of half the rows": Query(since_us=_HALF_US)}.items():
        asked[f"waiting{name}"] = partial(waiting, query=query)
        asked[f"figures{name}"] = partial(review_figures, query=query)
    for which in ReviewFilter:
        asked[f"results --review {which}: first page"] = partial(_page, Query(review=which, limit=51))
        asked[f"results --review {which}: summary"] = partial(summary, query=Query(review=which))
    asked["reviews: first page"] = lambda connection: list(
        review_rows(connection, Query(limit=50, reverse=True))
    )
    return {name: _timed(database, question) for name, question in asked.items()}


def _page(query: Query, connection: sa.Connection) -> object:
    return list(rows(connection, query))


def _timed(database: Path, question: Callable[[sa.Connection], object]) -> list[float]:
    walls, spent = [], []
    for _ in range(_ROUNDS):
        with closing(open_reader(database)) as connection:
            began, cpu = time.perf_counter(), time.process_time()
            question(connection)
            walls.append(time.perf_counter() - began)
            spent.append(time.process_time() - cpu)
    return [round(min(walls), 4), round(min(spent), 4)]


def answer(database: Path) -> dict[str, list[float]]:
    """Return seconds of wall and of CPU from an answer until it is on the disk."""
    writer, taken = ReviewWriter(str(database)), {}
    for origin in (ReviewOrigin.UNCERTAIN, ReviewOrigin.RANDOM):
        with closing(open_reader(database)) as connection:
            asked = candidates(connection, Query(), origins=(origin,), limit=20)
        walls, spent = [], []
        for one in asked:
            began, cpu = time.perf_counter(), time.process_time()
            writer.add([said(one.row.id, "tumour", origin=origin)])
            walls.append(time.perf_counter() - began)
            spent.append(time.process_time() - cpu)
        taken[f"answer: {origin.name.lower()}"] = [round(median(walls), 4), round(median(spent), 4)]
    return taken


def disturb(database: Path) -> dict[str, object]:
    """Return what a turn of the ledger takes with reviewers and without, and the share of its pace lost."""
    turns: dict[int, list[tuple[float, float]]] = {0: [], _REVIEWERS: []}
    with closing(open_writer(database)) as connection:
        ledger = Ledger(connection)
        with ledger.transaction():
            inbox_id, model_id = ledger.inbox_id(b"/inbox"), ledger.model_id(SERIES_MODEL)
        numbers = itertools.count()
        for _, (reviewers, taken) in itertools.product(range(_ROUNDS), turns.items()):
            with _answering(database, reviewers):
                ended = time.monotonic() + _TURNS_SECONDS
                while time.monotonic() < ended:
                    taken.append(_turn(ledger, inbox_id, model_id, next(numbers)))
                    time.sleep(max(0.0, _TURN / _PACE - taken[-1][0]))
    told: dict[str, object] = {}
    for name, taken in (("a turn", turns[0]), ("a turn beside reviewers", turns[_REVIEWERS])):
        walls, spent = zip(*taken, strict=True)
        told |= {
            f"{name}: median seconds of wall and CPU": [round(median(walls), 4), round(median(spent), 4)],
            f"{name}: longest, seconds": round(max(walls), 4),
        }
    for index, kind in enumerate(("wall", "CPU")):
        # Of medians: now and then a turn waits for a checkpoint, with reviewers or without.
        more = _median(turns[_REVIEWERS], index) - _median(turns[0], index)
        told[f"share of the pace lost to reviewers, {kind}"] = round(more * _PACE / _TURN, 4)
    return told


def _turn(ledger: Ledger, inbox_id: int, model_id: int, number: int) -> tuple[float, float]:
    """Take up and store one turn's images as the daemon does; return its seconds of wall and CPU."""
    versions = [
        FileVersion(inbox_id, b"new", b"%d-%d.png" % (number, place), 7_000, 1, place)
        for place in range(_TURN)
    ]
    judged = Judged(Status.OK, "tumour", 0.97, score=0.97)
    began, cpu = time.perf_counter(), time.process_time()
    with ledger.transaction():
        entries = ledger.add(versions)
    ledger.record([Outcome(entry.file_id, judged, None, 1_500) for entry in entries], model_id)
    if ledger.changed_elsewhere():  # the daemon asks once a second
        ledger.due(_TURN, 1 << 60)
    return time.perf_counter() - began, time.process_time() - cpu


def _median(taken: list[tuple[float, float]], index: int) -> float:
    return median(one[index] for one in taken)


@contextmanager
def _answering(database: Path, reviewers: int) -> Iterator[None]:
    """Have processes answer images while the body runs, already started when it begins."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _REVIEWER, str(database), f"reviewer {number}", str(_PAUSE_SECONDS)],
            cwd=REPOSITORY, stdout=subprocess.PIPE,
        )
        for number in range(reviewers)
    ]  # fmt: skip
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in processes:
            process.terminate()
            process.communicate()


_REVIEWER = """
import itertools, sys, time
from storage.reviews.review_writer import ReviewWriter
from tests.support.reviews import said
writer = ReviewWriter(sys.argv[1])
for number in itertools.count(1):
    writer.add([said(number, "tumour", sys.argv[2])])
    if number == 1:
        print("began", flush=True)
    time.sleep(float(sys.argv[3]))
"""
_ORDER = "file_id % 2147483647 * 1327217885 % 2147483647"
_REVIEW = (
    "INSERT INTO review (request_id, file_id, model_id, reviewer_id, answer, label_id, shown_label_id, "
    "shown_status, origin, in_sample, at_us) SELECT randomblob(16), file_id, model_id, 1 + id % 3, "
    "CASE WHEN id % 50 = 0 THEN 2 WHEN id % 50 = 1 THEN 3 ELSE 1 END, "
    "CASE WHEN id % 50 < 2 THEN NULL WHEN id % 7 = 0 THEN 1 ELSE coalesce(label_id, 1) END, "
    "label_id, status, "
)
_REVIEWED = (
    "UPDATE model SET uncertain_low = 0.57, uncertain_high = 0.63",
    "UPDATE result SET status = 1 WHERE status = 0 AND score >= 0.57 AND score < 0.63",
    "DELETE FROM tally",
    *(
        f"INSERT INTO tally SELECT {seconds}, completed_us / {seconds}000000 * {seconds}000000, 1, 1, "
        "coalesce(label_id, 0), status, count(*) FROM result GROUP BY 2, 5, 6"
        for seconds in TALLY_SECONDS
    ),
    "INSERT INTO reviewer (id, name) VALUES (1, 'ada'), (2, 'bob'), (3, 'eve')",
    _REVIEW + "1, 0, completed_us FROM result WHERE status < 2 ORDER BY abs(score - 0.6) LIMIT :doubtful",
    _REVIEW + "3, 1, completed_us FROM result WHERE file_id NOT IN (SELECT file_id FROM review) "
    f"ORDER BY {_ORDER} LIMIT :drawn",
    f"UPDATE review SET in_sample = 1 WHERE {_ORDER} <= (SELECT max({_ORDER}) FROM review WHERE origin = 3)",
)


if __name__ == "__main__":
    main()
