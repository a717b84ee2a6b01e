"""How fast series are listed, counted and shown among a million rows.

    python -m tests.benchmark.series_scale [--rows 1_000_000] [--series 30_000] [--json FILE] [--plans]

The rows are written by SQL, as the ledger would leave them. Queries are asked on a connection of their own,
as a command asks them; pages come from the real application. A figure is the median of five, in
seconds of wall and of CPU; with it the load of the machine is told.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa

from daemon.process import child_environment
from storage.database import open_reader
from storage.queries.series_rows import series_count, series_rows, series_summary, slices_of
from storage.query import Grouping, Query, Sort
from storage.records import Status
from storage.schema import TALLY_SECONDS
from tests.benchmark.programs_scale import ask_pages
from tests.support.series import open_series_store

_ROUNDS = 5
FIRST_US = 1_790_000_000_000_000
_STEP_US = 100_000  # from one row to the next


def main() -> None:
    """Fill a database, ask it, and print seconds; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--series", type=int, default=30_000)
    parser.add_argument("--folder", type=Path, help="where the database is made")
    parser.add_argument("--plans", action="store_true", help="print how SQLite goes about each query")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    told: dict[str, Any] = {"rows": options.rows, "series": options.series}
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        database = Path(place) / "results.db"
        fill(database, options.rows, options.series)
        told["seconds"] = ask_queries(database, plans=options.plans)
        environment = child_environment() | {"BT_CACHE": str(Path(place) / "cache")}
        ask_pages(database, environment, _PAGES, lambda name, taken, _: _note(told, name, taken), _ROUNDS)
    told["load_average"] = round(os.getloadavg()[0], 1)
    for name, seconds in told["seconds"].items():
        print(f"{name:<60} {seconds:>8.3f} s")
    print(json.dumps(told))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")


def fill(database: Path, rows: int, series: int) -> None:
    """Write rows that belong to series, four of those a study, two studies a patient."""
    open_series_store(database).close()
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;")
        for statement in _FILL:
            connection.execute(
                statement, {"rows": rows, "series": series, "first": FIRST_US, "step": _STEP_US}
            )
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def ask_queries(database: Path, *, plans: bool) -> dict[str, float]:
    """Return how long each question takes, seconds."""
    told: dict[str, Callable[[sa.Connection], object]] = {"slices of one series": lambda c: slices_of(c, 17)}
    for grouping in (Grouping.SERIES, Grouping.STUDY, Grouping.PATIENT):
        for name, query in _ASKED.items():
            told[f"--by {grouping.value}: {name}"] = partial(_listed, grouping, query)
        told[f"--by {grouping.value}: page 500"] = partial(_listed, grouping, _PAGE, offset=499 * 50)
        told[f"--by {grouping.value}: count"] = partial(_counted, grouping)
        told[f"--by {grouping.value}: summary"] = partial(_summed, grouping)
    taken: dict[str, float] = {}
    for name, question in told.items():
        taken[name], taken[f"{name}, of processor"] = _timed(database, question, name if plans else "")
    return taken


def _listed(grouping: Grouping, query: Query, connection: sa.Connection, offset: int = 0) -> object:
    return list(series_rows(connection, grouping, query, offset))


def _counted(grouping: Grouping, connection: sa.Connection) -> object:
    return series_count(connection, grouping, Query())


def _summed(grouping: Grouping, connection: sa.Connection) -> object:
    return series_summary(connection, grouping, Query())


def _timed(
    database: Path, question: Callable[[sa.Connection], object], explained: str
) -> tuple[float, float]:
    """Return seconds of wall and of CPU: on a busy machine they differ."""
    walls, spent = [], []
    for _ in range(_ROUNDS):
        with open_reader(database) as connection:
            began, cpu = time.perf_counter(), time.process_time()
            question(connection)
            walls.append(time.perf_counter() - began)
            spent.append(time.process_time() - cpu)
    if explained:
        print(f"{explained}\n" + "\n".join(f"    {line}" for line in _plan(database, question)))
    return round(median(walls), 4), round(median(spent), 4)


def _plan(database: Path, question: Callable[[sa.Connection], object]) -> list[str]:
    """Return how SQLite goes about the statements of a question."""
    statements: list[tuple[str, Any]] = []
    with open_reader(database) as connection:
        sa.event.listen(
            connection,
            "before_cursor_execute",
            lambda _c, _u, text, values, *_: statements.append((text, values)),
        )
        question(connection)
    with closing(sqlite3.connect(database)) as connection:
        return [
            row[3]
            for text, values in statements
            if text.lstrip().startswith("SELECT")
            for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)
        ]


def _note(told: dict[str, Any], name: str, taken: float) -> None:
    told["seconds"][name] = round(taken, 4)


_PAGE = Query(limit=51)
_ASKED = {
    "first page": _PAGE,
    "first page by score": replace(_PAGE, sort=Sort.SCORE),
    "first page by doubt": replace(_PAGE, sort=Sort.DOUBT),
    "first page by name": replace(_PAGE, sort=Sort.FILE),
    "first page of a class": replace(_PAGE, labels=("tumour",)),
    "first page of rejected": replace(_PAGE, statuses=(Status.REJECTED,)),
    "first page since": replace(_PAGE, since_us=FIRST_US + 90_000_000_000),
    "first page of a text": replace(_PAGE, text="0badcafe"),
}
_PAGES = {
    "web: overview": "/?since=all",
    "web: series": "/series",
    "web: series, page 500": "/series?page=500",
    "web: series of a class by score": "/series?class=tumour&sort=score",
    "web: patients": "/series?by=patient",
    "web: one series": "/series/17",
    "web: JSON series": "/api/series",
}
_FILL = (
    "INSERT INTO label (id, name) VALUES (1, 'no_tumour'), (2, 'tumour')",
    """
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :series)
    INSERT INTO folder (id, inbox_id, path) SELECT i + 1, 1, CAST(printf('2026/%06d', i) AS BLOB) FROM n
    """,
    """
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :series)
    INSERT INTO series (id, inbox_id, series_key, study_key, patient_key, origin)
    SELECT i + 1, 1, randomblob(16), CAST(printf('study-%010d', i / 4) AS BLOB),
           CAST(printf('patient-%08d', i / 8) AS BLOB), 1 FROM n
    """,
    """
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows)
    INSERT INTO file (id, folder_id, name, size, mtime_ns, inode, state, attempts, first_seen_us)
    SELECT i + 1, i * :series / :rows + 1, CAST(printf('IM-%08d.dcm', i) AS BLOB), 7000 + i % 23000,
           1760000000000000000 + i * 216000017, 5000000 + i, 1, 0, :first + i * :step FROM n
    """,
    """
    WITH scored AS (
        SELECT id, folder_id, first_seen_us, (abs(random()) % 1000001) / 1000000.0 AS score,
               abs(random()) % 100 < 2 AS bad FROM file
    )
    INSERT INTO result (id, file_id, model_id, label_id, status, confidence, completed_us, duration_us,
                        sha256, score, series_id, position)
    SELECT id, id, 1, CASE WHEN bad THEN NULL WHEN score >= 0.6 THEN 2 ELSE 1 END,
           CASE WHEN bad THEN 2 ELSE 0 END,
           CASE WHEN bad THEN NULL ELSE max(score, 1 - score) END, first_seen_us, 1500, randomblob(32), score,
           folder_id, id FROM scored
    """,
    """
    INSERT INTO series_verdict (series_id, model_id, status, label_id, confidence, score, slices, rejected,
                                files, votes, loudest_file_id, loudest_score, first_us, touched_us)
    SELECT s, 1, CASE WHEN s % 100 = 0 THEN 2 ELSE 0 END,
           CASE WHEN s % 100 = 0 THEN NULL WHEN score >= 0.5 THEN 2 ELSE 1 END,
           CASE WHEN s % 100 = 0 THEN NULL ELSE max(score, 1 - score) END, score, n - bad, bad, n, x'',
           loudest, most, first_us, touched_us
    FROM (
        SELECT series_id AS s, avg(score) AS score, count(*) AS n, sum(status = 2) AS bad, file_id AS loudest,
               max(score) AS most, min(completed_us) AS first_us, max(completed_us) AS touched_us
        FROM result GROUP BY series_id
    )
    """,
    *(
        f"""
        INSERT INTO tally (seconds, start_us, inbox_id, model_id, label_id, status, count)
        SELECT {seconds}, completed_us / {seconds}000000 * {seconds}000000, 1, 1, coalesce(label_id, 0),
               status, count(*)
        FROM result GROUP BY 2, 5, 6
        """
        for seconds in TALLY_SECONDS
    ),
)  # fmt: skip


if __name__ == "__main__":
    main()
