"""What the programs that read results take over a large database: whole processes, start included."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from urllib.parse import SplitResult, urlsplit

import psutil

from daemon.process import child_environment
from tests.benchmark import measure

Add = Callable[[str, float, str], None]

_COMMANDS = {
    "results --since today": ("results", "--since", "today"),
    "results --since today --count": ("results", "--since", "today", "--count"),
    "results --summary": ("results", "--summary"),
    "results --class nobody": ("results", "--class", "nobody"),
}
_PAGES = {
    "web, overview": "/",
    "web, first page of results": "/results",
    "web, first page of the positive of today": "/results?class=tumour&since=today",
    "web, JSON status": "/api/status",
}


def ask_programs(database: Path, add: Add, store_one: Callable[[], None]) -> None:
    """Time commands and pages, and an export of everything while `store_one` commits as the daemon does."""
    environment = child_environment() | {"BT_CACHE": str(database.parent / "cache")}
    for name, words in _COMMANDS.items():
        cost = _run(words, database, environment)
        add(f"bt-daemon {name}", cost.wall_seconds, "s")
    ask_pages(database, environment, _PAGES, add)
    longest = _Longest(store_one)
    with longest:
        cost = _run(("results", "-o", str(database.parent / "all.csv")), database, environment)
    size = (database.parent / "all.csv").stat().st_size
    add("export of everything as CSV", cost.wall_seconds, "s")
    add("export of everything as CSV: size", size / 1e6, "MB")
    add("export of everything as CSV: peak memory", cost.peak_megabytes, "MB")
    add("longest commit of a writer meanwhile", longest.seconds, "s")
    add("commits meanwhile", longest.commits, "")


class _Longest:
    """Commits in a thread of its own, and remembers the longest."""

    def __init__(self, store_one: Callable[[], None]) -> None:
        self._store_one = store_one
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.seconds, self.commits = 0.0, 0

    def _work(self) -> None:
        while not self._ended.is_set():
            began = time.perf_counter()
            self._store_one()
            self.seconds = max(self.seconds, time.perf_counter() - began)
            self.commits += 1
            time.sleep(0.05)

    def __enter__(self) -> _Longest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def _run(words: tuple[str, ...], database: Path, environment: dict[str, str]) -> measure.Cost:
    command = [sys.executable, "-m", "daemon.cli", *words, "--db", str(database)]
    return measure.run(command, database.with_suffix(".out"), environment)


def ask_pages(
    database: Path, environment: Mapping[str, str], pages: Mapping[str, str], add: Add, rounds: int = 1
) -> None:
    """Time pages, address by name, of a real `bt-daemon web`; of several rounds the median counts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon.cli", "web", "--port", "0", "--db", str(database)],
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        place = urlsplit(found[0])
        _ask_page(place, "/api/status")  # to warm up
        for name, path in pages.items():
            spent = _processor_seconds(process.pid)
            add(name, median(_ask_page(place, path) for _ in range(rounds)), "s")
            add(f"{name}, of processor", (_processor_seconds(process.pid) - spent) / rounds, "s")
    finally:
        process.terminate()
        process.wait()


def _processor_seconds(pid: int) -> float:
    """Return what a process has spent so far."""
    spent = psutil.Process(pid).cpu_times()
    return float(spent.user + spent.system)


def _ask_page(place: SplitResult, path: str) -> float:
    """Return how long a page takes, seconds."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=120)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    taken = time.perf_counter() - began
    connection.close()
    if answer.status != http.client.OK:
        raise RuntimeError(f"{path}: {answer.status}")
    return taken
