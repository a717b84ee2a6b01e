"""Databases of tests: a file, and for tests with the marker `databases` one on a PostgreSQL server too."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.postgresql_server import NoServerError, PostgresqlServer, postgresql_server

Target = Path | str  # a file, or a URL of a server
KINDS = ("sqlite", "postgresql")


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Run a test that has a database, and the marker `databases`, once per kind (of those it names)."""
    marker = metafunc.definition.get_closest_marker("databases")
    if marker is None:
        return
    if "database_kind" not in metafunc.fixturenames:
        if any(mark.name == "databases" for mark in metafunc.definition.own_markers):
            raise pytest.UsageError(f"{metafunc.definition.nodeid} is marked `databases` and uses none")
        return
    metafunc.parametrize("database_kind", marker.args or KINDS, indirect=True, scope="module")


@contextmanager
def server(named: str | None) -> Iterator[PostgresqlServer]:
    """Start a server, or use the one that is named; skip the test without any."""
    with ExitStack() as stack:
        try:
            started = stack.enter_context(postgresql_server(named))
        except NoServerError as error:
            pytest.skip(f"needs PostgreSQL: {error}")
        yield started


def is_server(target: Target) -> bool:
    """Tell whether a database lies on a server."""
    return "://" in str(target)


def raw(target: Target, sql: str) -> list[tuple[Any, ...]]:
    """Run a statement past our own code."""
    if is_server(target):
        import psycopg

        with psycopg.connect(str(target), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []
    import sqlite3

    with closing(sqlite3.connect(target, isolation_level=None)) as file:
        return file.execute(sql).fetchall()


@contextmanager
def daemon_lock_held(target: Target) -> Iterator[None]:
    """Hold what a daemon holds that works on a database."""
    from storage.database import open_writer
    from storage.lock import DatabaseLock

    held = closing(open_writer(target, sole=True)) if is_server(target) else DatabaseLock(Path(target))
    with held:
        yield


@contextmanager
def new_database(kind: str, folder: Path) -> Iterator[Target]:
    """Yield where a database of a kind is to be made, outside the tests: a file, or empty on a server."""
    if kind == "sqlite":
        yield folder / "results.db"
        return
    with postgresql_server() as started, started.database(empty=True) as url:
        yield url


def soundness(target: Target) -> str:
    """Return "ok", or what is wrong with a database: its pages of a file, its tallies of one on a server."""
    if not is_server(target):
        return str(raw(target, "PRAGMA integrity_check")[0][0])
    from storage.maintenance.check_backup import check

    return "; ".join(check(target).problems) or "ok"


def close_at_end(connection: sa.Connection, target: Target) -> None:
    """Let a connection that its test leaves open be closed before its database goes."""
    _OPEN[target].append(connection)


_OPEN: defaultdict[Target, list[sa.Connection]] = defaultdict(list)


class DatabaseMaker:
    """Makes databases of one kind, each of its own, which are there until it is closed."""

    def __init__(self, folder: Path, server: PostgresqlServer | None) -> None:
        """`server` is None for files in `folder`."""
        self._folder = folder
        self._server = server
        self._numbers = itertools.count()
        self._made: list[Target] = []
        self._stack = ExitStack()

    def __call__(self) -> Target:
        """Return where a database is to be: a file not there yet, or one on the server with tables."""
        number = next(self._numbers)
        if self._server is not None:
            made: Target = self._stack.enter_context(self._server.database())
        else:
            made = self._folder / (f"results-{number}.db" if number else "results.db")
        self._made.append(made)
        return made

    def close(self) -> None:
        """Close what is still open, and drop those on the server."""
        for target in self._made:
            for connection in _OPEN.pop(target, []):
                connection.close()
        self._stack.close()
