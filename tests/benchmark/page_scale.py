"""How fast the results page answers over a million rows: search, facets, orders, deep pages, downloads.

    python -m tests.benchmark.page_scale [--rows 1_000_000] [--db sqlite|postgresql] [--json FILE] [--load]

Asked is the real `bt-daemon web` over HTTP. A figure is the median of three, seconds until the answer was
whole, with the processor time of the web process, and of PostgreSQL for it; of downloads the first byte is
timed too, and the largest memory of the web process is told. `--db postgresql` copies the rows to a server
that is started for it. `--load` keeps as many processes busy as there are cores meanwhile.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import SplitResult, urlsplit

import psutil
import psycopg

from daemon.process import child_environment
from daemon.web.address import encode_key
from storage.database import open_reader
from storage.queries.budget import Budget
from storage.queries.result_page import result_page
from storage.query import Query, Sort
from tests.benchmark.copied import copy_to_server
from tests.benchmark.page_rows import fill
from tests.support.databases import KINDS, Target, is_server
from tests.support.postgresql_server import postgresql_server

_ROUNDS = 3
_PARTIAL = ("in the time a page has", "Sorted are the newest")
_TEXTS = ("0", "00", "001", "0012", "IM-", "im-0012", "nothing like this", "2026/0012", "not an")
_DEEP = 500_000  # rows before a deep page


def main() -> None:
    """Fill a database, ask the pages, print seconds; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--series", type=int, default=30_000)
    parser.add_argument("--database", type=Path, help="filled before; else it is made and removed")
    parser.add_argument("--db", choices=KINDS, default=KINDS[0], help="where the rows are asked")
    parser.add_argument("--load", action="store_true", help="keep all cores busy meanwhile")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        database = options.database or Path(place) / "results.db"
        if not database.exists():
            fill(database, options.rows, options.series)
        with _asked(options.db, database) as target, _busy(os.cpu_count() or 1 if options.load else 0):
            told = ask(target, Path(place) / "cache")
    told = {"rows": options.rows, "database": options.db, "busy_processes": options.load, **told}
    told["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(told))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")


@contextmanager
def _asked(kind: str, filled: Path) -> Iterator[Target]:
    """Yield where the rows of a file are asked: there, or on a server."""
    if kind == "sqlite":
        yield filled
        return
    with postgresql_server() as server, server.database() as url:
        copy_to_server(filled, url)
        yield url


def ask(database: Target, cache: Path) -> dict[str, Any]:
    """Return what each page takes, seconds of wall and of CPU, and what the server needs."""
    pages = _pages(database)
    with _server(database, cache) as (place, process):
        _get(place, "/api/status")
        busy = [psutil.Process(process.pid), *_postmaster(database)]
        seconds: dict[str, float] = {}
        processor: dict[str, float] = {}
        partial: list[str] = []
        for name, path in pages.items():
            spent = sum(map(_cpu_seconds, busy))
            answers = [_get(place, path) for _ in range(_ROUNDS)]
            processor[name] = round((sum(map(_cpu_seconds, busy)) - spent) / _ROUNDS, 3)
            seconds[name] = round(median(taken for taken, _ in answers), 3)
            if any(words in text for words in _PARTIAL for _, text in answers):
                partial.append(name)
            mark = " (partial)" if name in partial else ""
            print(f"{name:<48} {seconds[name]:>7.3f} s, of CPU {processor[name]:.3f} s{mark}", flush=True)
        memory = psutil.Process(process.pid).memory_info().rss >> 20
        downloads = {name: _download(place, path, process.pid) for name, path in _DOWNLOADS.items()}
    for name, figures in downloads.items():
        print(f"{name:<52} {figures}", flush=True)
    return {
        "seconds": seconds,
        "seconds_of_cpu": processor,
        "slowest": max(seconds.values()),
        "slowest_of_cpu": max(processor.values()),
        "answered for the newest only": partial,
        "server_mib_after_pages": memory,
        "downloads": downloads,
    }


def _cpu_seconds(process: psutil.Process) -> float:
    """Return what a process has spent, with those it started that have ended: PostgreSQL's sessions."""
    return float(sum(process.cpu_times()[:4]))


def _postmaster(database: Target) -> list[psutil.Process]:
    """Return the process that starts one for each session, of a database on a server."""
    if not is_server(database):
        return []
    with psycopg.connect(str(database)) as connection:
        return [psutil.Process(psutil.Process(connection.info.backend_pid).ppid())]


def _pages(database: Target) -> dict[str, str]:
    pages = {
        "first page": "/results",
        "overview": "/?since=all",
        "live part of the overview": "/live?since=all",
        **{f"search as one types: {text!r}": f"/results/part?q={text.replace(' ', '+')}" for text in _TEXTS},
        "search, by score": "/results/part?q=0012&sort=score",
        "search for what all have, by score": "/results/part?q=IM-&sort=score",
        "facets: class": "/results?class=tumour",
        "facets: class, status, inbox": "/results?class=tumour&status=uncertain&inbox=/srv/scans/second",
        "facets: model of few": "/results?model=cdab",
        "facets: errors": "/results?status=error",
        "a month of a class": "/results?since=2026-08-01&until=2026-09-01&class=tumour",
        "score from 0.999": "/results?min_score=0.999",
        "score from 0.5": "/results?min_score=0.5",
        "one series": "/results?series=6",
    }
    with open_reader(database) as connection:
        for sort in (one for one in Sort if one is not Sort.ID):
            for order in ("", "reverse"):
                name = f"by {sort.value}{', reversed' if order else ''}"
                pages[name] = f"/results?sort={sort.value}&order={order}"
                key = _deep_key(connection, Query(sort=sort, reverse=bool(order)))
                pages[f"{name}, deep page"] = f"{pages[name]}&after={key}"
    return pages


def _deep_key(connection: Any, query: Query) -> str:
    """Return the key of a row from the middle."""
    row = result_page(connection, Query(limit=1, after=(1 << 62, _DEEP), sort=Sort.TIME), None, 1 << 30,
                      Budget(60)).rows[0]  # fmt: skip
    return encode_key(row.key(query.sort))


_DOWNLOADS = {
    "CSV of all": "/results.csv",
    "JSON of all, by score": "/results.json?sort=score",
    "CSV of a text": "/results.csv?q=0012",
    "JSON of a class": "/results.json?class=tumour&status=uncertain",
}


def _download(place: SplitResult, path: str, pid: int) -> dict[str, float]:
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=600)
    with _Peak(pid) as peak:
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        head = time.perf_counter() - began
        answer.read(1)
        first = time.perf_counter() - began
        size = 1
        while chunk := answer.read(1 << 20):
            size += len(chunk)
        taken = time.perf_counter() - began
    connection.close()
    return {
        "head_s": round(head, 3),
        "first_byte_s": round(first, 3),
        "whole_s": round(taken, 2),
        "mb": round(size / 1e6, 1),
        "server_peak_mib": peak.mib,
    }


class _Peak:
    """The largest memory of a process while this is open."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.mib = 0

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            self.mib = max(self.mib, self._process.memory_info().rss >> 20)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@contextmanager
def _server(database: Target, cache: Path) -> Iterator[tuple[SplitResult, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon.cli", "web", "--port", "0", "--db", str(database)],
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        env={**os.environ, **child_environment(), "BT_CACHE": str(cache)},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        yield urlsplit(found[0]), process
    finally:
        process.terminate()
        process.wait()


def _get(place: SplitResult, path: str) -> tuple[float, str]:
    began = time.perf_counter()
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=120)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    taken = time.perf_counter() - began
    connection.close()
    if answer.status != http.client.OK:
        raise RuntimeError(f"{path}: {answer.status}")
    return taken, text


@contextmanager
def _busy(number: int) -> Iterator[None]:
    """Keep that many processes computing."""
    context = multiprocessing.get_context("spawn")
    busy = [context.Process(target=_compute, daemon=True) for _ in range(number)]
    for one in busy:
        one.start()
    try:
        yield
    finally:
        for one in busy:
            one.kill()


def _compute() -> None:
    while True:
        base64.b64encode(os.urandom(1 << 16))


if __name__ == "__main__":
    main()
