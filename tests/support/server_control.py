"""What may happen to a PostgreSQL server of a test: it is restarted at once, its sessions are killed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg

from tests.support import postgresql_server as programs
from tests.support.postgresql_server import PostgresqlServer, postgresql_server


@contextmanager
def restartable_server() -> Iterator[PostgresqlServer]:
    """Yield a server of the caller's own; raise NoServerError without any."""
    with postgresql_server() as server:
        try:
            yield server
        finally:
            _control(server.url, "stop")


def restart(url: str) -> None:
    """Let a server that was started here crash, and start it again; return when it answers."""
    _control(url, "restart")


def kill_sessions(url: str) -> int:
    """Kill every session of our program in a database; return how many there were."""
    with psycopg.connect(url, autocommit=True) as connection:
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'bt-daemon%'"
        )
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def _control(url: str, what: str) -> None:
    folder = Path(parse_qs(urlsplit(url).query)["host"][0])
    command = [
        str(programs._programs() / "pg_ctl"),
        "-D",
        str(folder / "data"),
        "-m",
        "immediate",
        "-w",
        what,
    ]
    if what == "restart":
        command += ["-l", str(folder / "log-of-restarts")]
    subprocess.run(
        command, user=programs._server_user(), cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=60
    )
