"""A real daemon in its own process, over real folders and a real database."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic

from typing_extensions import TypeVar

from tests.conftest import REPOSITORY
from tests.support.databases import Target, is_server, raw

PATIENCE_SECONDS = 60.0


def bt_daemon(
    *arguments: str | Path, timeout: float = 120, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `bt-daemon` to its end and return what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "daemon.cli", *map(str, arguments)],
        cwd=REPOSITORY, text=True, capture_output=True, timeout=timeout, check=False, **options,
    )  # fmt: skip


_Place = TypeVar("_Place", bound=Target, default=Path)


class Daemon(Generic[_Place]):
    """A watching daemon; `log` is the file its lines go to."""

    def __init__(self, arguments: list[str | Path], database: _Place, log: Path) -> None:
        self.database = database
        self.log = log
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daemon.cli", "watch", *map(str, arguments), "--db", str(database)],
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def wait_until_watching(self) -> None:
        """Return when the daemon says that it watches."""
        until(lambda: "watching" in self.log.read_text() or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended: {self.log.read_text()}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """Kill without warning."""
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)


@contextmanager
def running(
    *arguments: str | Path, database: _Place, log: Path | None = None, watching: bool = True
) -> Iterator[Daemon[_Place]]:
    """Run `bt-daemon watch` with the arguments until the block ends; a server's database needs a `log`."""
    daemon = Daemon(list(arguments), database, log or Path(database).with_suffix(".log"))
    try:
        if watching:
            daemon.wait_until_watching()
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.process.terminate()
            try:
                daemon.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(daemon.process.pid, signal.SIGKILL)
                daemon.process.wait()


def rows(database: Target) -> list[dict[str, Any]]:
    """Return all results as `bt-daemon results --format json` gives them."""
    done = bt_daemon("results", "--format", "json", "--db", database)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def count(database: Target, query: str = "SELECT count(*) FROM result") -> int:
    """Return the one number of a query, 0 while there is no database yet, or its server is away."""
    if is_server(database):
        import psycopg

        try:
            return int(raw(database, query)[0][0])
        except psycopg.Error:
            return 0
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)
    except sqlite3.OperationalError:
        return 0
    try:
        return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not true after {seconds:g} s")
        time.sleep(0.02)
