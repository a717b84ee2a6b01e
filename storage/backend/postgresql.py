"""PostgreSQL as the database: one on a server, with one writer as in a file.

A transaction that writes holds an advisory lock from its first statement on, as SQLite's BEGIN IMMEDIATE
does: numbers are given, and results become visible, in the order of the commits. A daemon holds another for
as long as its session lives; it dies with the session, so no second daemon ever waits for a dead one.
A session that was lost is opened again by the next transaction, which takes that lock anew or ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import psycopg
import sqlalchemy as sa

from config.database_url import libpq_url, without_password
from config.errors import UsageError
from config.paths import default_database
from config.text import printable
from storage.backend.backend import BUSY_SECONDS, ONE_DAEMON_HINT, OPTION
from storage.backend.revisions import check_revision, let_in
from storage.backend.server_text import send_any_text
from storage.backend.transactions import begin_with, reading, writing
from storage.database_errors import (
    DatabaseCorruptError,
    DatabaseLostError,
    DatabaseUnavailableError,
    DatabaseUnwritableError,
    database_errors,
    server_trouble,
)
from storage.schema import REVISION

# A server that does not answer must not hold the daemon's loop: it tries again by itself. What the address
# or the environment says comes first.
_CONNECTING = {
    "connect_timeout": "5",  # seconds
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",  # milliseconds
}
# Advisory locks are a database's own; these names keep ours apart from other programs' in the same one.
# Two schemas of one database are two databases of ours.
_LOCK_CLASS_DAEMON, _LOCK_CLASS_WRITE = 0x62_74_64, 0x62_74_77  # "btd", "btw"
_SCHEMA_KEY = "(('x' || substr(md5(current_schema()), 1, 8))::bit(32)::int & 2147483647)"
_BEGIN = f"BEGIN; SELECT pg_advisory_xact_lock({_LOCK_CLASS_WRITE}, {_SCHEMA_KEY})"
# What others change, a daemon notices by this number; its own changes it need not notice.
_BEGIN_BESIDE = "; ".join([_BEGIN, "UPDATE outside_change SET number = number + 1"])
_VIEW = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_MAKE_OUTSIDE_CHANGE = (
    "CREATE TABLE IF NOT EXISTS outside_change (number bigint NOT NULL);"
    "INSERT INTO outside_change SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM outside_change)"
)
# A host that lost its power must not hold the lock for the two hours after which a server asks by default.
# A committed row may be reported, and its file moved away, so no server's setting may make commits forgetful.
_SESSION = (
    "SET lock_timeout = {lock_milliseconds}; SET jit = off;"
    " SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"
    " SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'"
)
_TAKE_LOCK = f"SELECT pg_try_advisory_lock({_LOCK_CLASS_DAEMON}, {_SCHEMA_KEY})"
# Who holds it: another role may only see that somebody does.
_HOLDER = (
    "SELECT held.pid, coalesce(seen.application_name, ''),"  # noqa: S608 - constants
    " (extract(epoch FROM seen.state_change) * 1000000)::bigint"
    " FROM pg_locks AS held LEFT JOIN pg_stat_activity AS seen ON seen.pid = held.pid"
    " WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 2"
    " AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND held.classid = %s AND held.objid::bigint = " + _SCHEMA_KEY
)
_FIND_TABLES = (
    "SELECT to_regclass('outside_change') IS NOT NULL,"
    " coalesce(to_regclass('alembic_version'), to_regclass('result'), to_regclass('file')) IS NOT NULL"
)
# A migration of many rows is waited for.
MIGRATING_SECONDS = 60.0
# A daemon that was killed is gone for its server a moment later.
_PATIENCE_SECONDS = 1.0
_STEP_SECONDS = 0.05


class Holder(NamedTuple):
    """The session that holds a daemon's lock."""

    session: int  # its process on the server
    name: str  # what it calls itself: see `_Connector`
    active_us: int | None  # when it last did something, microseconds since the epoch; None: not told to us

    @property
    def pid(self) -> int | None:
        """The daemon's process, on its own host; None if we may not see it."""
        words = self.name.split()
        return int(words[1]) if len(words) == 3 and words[1].isdigit() else None

    @property
    def shown(self) -> str:
        """The daemon's process, with its host if that is another one."""
        host = self.name.partition("@")[2]
        there = f" on {printable(host)}" if host and host != socket.gethostname() else ""
        return f"{self.pid or '?'}{there}"


class PostgresqlBackend:
    """A database on a PostgreSQL server."""

    def __init__(self, url: str) -> None:
        """Nothing is opened yet; raises UsageError for an address that libpq cannot read."""
        self._place = without_password(url)
        # With the password that the address may hold: for libpq alone.
        self.conninfo = _conninfo(url, self._place)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PostgresqlBackend) and other.conninfo == self.conninfo

    def __hash__(self) -> int:
        return hash(self.conninfo)

    @property
    def place(self) -> str:
        """Return the address without a password."""
        return self._place

    @property
    def stand_in(self) -> Path:
        """Return a name in the user's data folder, different for each server, database and schema."""
        known = psycopg.conninfo.conninfo_to_dict(self.conninfo)
        parts = [known.get(key) or "" for key in ("service", "host", "port", "dbname", "options")]
        name = "-".join(
            "".join(char if char.isalnum() else "_" for char in str(part)) for part in parts if part
        )
        return default_database().with_name(f"postgresql-{name or 'default'}")

    def open_writer(self, busy_seconds: float, *, checkpoints: bool, sole: bool) -> sa.Connection:  # noqa: ARG002
        """Open for writing; the tables are made, or migrated, if need be. SQLite alone checkpoints."""
        self._migrate()
        engine = (
            self.engine(busy_seconds, _BEGIN, sole=True)
            if sole
            else _shared(self, busy_seconds, _BEGIN_BESIDE)
        )
        with database_errors(self.place):
            return engine.connect()

    def open_reader(self, busy_seconds: float) -> sa.Connection:
        """Open for reading only."""
        return self._open_known(busy_seconds, _VIEW)

    def open_beside(self, busy_seconds: float) -> sa.Connection:
        """Open for a few short transactions."""
        return self._open_known(busy_seconds, _BEGIN_BESIDE)

    def open_any(self) -> sa.Connection:
        """Open for reading, whatever tables there are."""
        with database_errors(self.place):
            return _shared(self, BUSY_SECONDS, _VIEW).connect()

    def holder(self) -> Holder | None:
        """Return who holds the daemon's lock, None if nobody does."""
        with self._reached() as driver:
            return _holder(driver)

    def stored_revision(self, connection: sa.Connection) -> str | None:
        """Return the schema revision, None if there is no schema of ours yet."""
        ours, others = connection.exec_driver_sql(_FIND_TABLES).one()
        if not ours:
            if others:
                raise DatabaseCorruptError(
                    f"the database {printable(self.place)} has tables of another program",
                    hint="give --db a database of its own: createdb NAME",
                )
            return None
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
        return None if found is None else str(found)

    def change_number(self, connection: sa.Connection) -> int:
        """Return how often others changed something."""
        return int(connection.exec_driver_sql("SELECT number FROM outside_change").scalar_one())

    def place_of(self, connection: sa.Connection) -> str:  # noqa: ARG002 - it may be lost by now
        """Return the address without a password."""
        return self.place

    def is_sound(self, connection: sa.Connection) -> bool:  # noqa: ARG002
        """Return False: the server looks at its files itself."""
        return False

    def give_up(self, connection: sa.Connection) -> None:
        """Drop the session, and with it whatever it had begun."""
        connection.invalidate()

    def close_whole(self, connection: sa.Connection, lost: Path | None) -> None:  # noqa: ARG002
        """Close a session; the server has all that was committed."""
        connection.close()

    def _open_known(self, busy_seconds: float, begin: str) -> sa.Connection:
        with database_errors(self.place):
            connection = _shared(self, busy_seconds, begin).connect()
            try:
                with reading(connection):
                    let_in(self.stored_revision(connection), self.place)
            except BaseException:
                connection.close()
                raise
        return connection

    def engine(self, busy_seconds: float, begin: str, *, sole: bool = False) -> sa.Engine:
        """Return an engine whose sessions begin their transactions with `begin`."""
        engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=_Connector(self, busy_seconds, sole=sole),
            poolclass=sa.NullPool,
            paramstyle="format",
            use_native_hstore=False,
            execution_options={OPTION: self},
        )
        begin_with(engine, begin, _VIEW)
        return engine

    def _migrate(self) -> None:
        """Bring the schema to this version's revision. A copy of before is the server's administrator's."""
        with database_errors(self.place), _shared(self, MIGRATING_SECONDS, _BEGIN).connect() as connection:
            with reading(connection):
                stored = self.stored_revision(connection)
            if stored == REVISION:
                return
            with writing(connection):
                stored = self.stored_revision(connection)  # another process may have come first
                check_revision(stored, self.place)
                if stored is None:
                    self._check_encoding(connection)
                    connection.exec_driver_sql(_MAKE_OUTSIDE_CHANGE)
                if stored != REVISION:
                    from storage.migrations import upgrade

                    upgrade(connection)

    def _check_encoding(self, connection: sa.Connection) -> None:
        encoding = str(connection.exec_driver_sql("SHOW server_encoding").scalar_one())
        if encoding != "UTF8":
            raise DatabaseUnwritableError(
                f"the database {printable(self.place)} has the encoding {printable(encoding)}, not UTF8",
                hint="make one: createdb --encoding UTF8 --template template0 NAME",
            )

    @contextlib.contextmanager
    def _reached(self) -> Iterator[psycopg.Connection[Any]]:
        """Open a bare session, for a moment."""
        try:
            with psycopg.connect(self.conninfo, autocommit=True) as driver:
                yield driver
        except psycopg.Error as error:
            raise server_trouble(error, self.place) or error from error


@lru_cache(maxsize=32)
def _shared(backend: PostgresqlBackend, busy_seconds: float, begin: str) -> sa.Engine:
    """Return an engine that knows its server already, for the many who open a database for a moment."""
    return backend.engine(busy_seconds, begin)


class _Connector:
    """Opens sessions; those of a daemon hold its lock."""

    def __init__(self, backend: PostgresqlBackend, busy_seconds: float, *, sole: bool) -> None:
        self._backend = backend
        self._busy_seconds = busy_seconds
        self._sole = sole
        self._was_open = False
        # So that the server's administrator sees who is there, and this one its own lost session.
        self._name = f"bt-daemon {os.getpid()} {secrets.token_hex(4)}@{socket.gethostname()}"[:63]

    def __call__(self) -> psycopg.Connection[Any]:
        """Return an open session; raise UsageError for one that another daemon keeps out."""
        # In autocommit the driver begins nothing of its own: transactions begin visibly, in one round trip.
        conninfo = self._backend.conninfo
        driver = psycopg.connect(conninfo, autocommit=True, application_name=self._name)
        send_any_text(driver)
        try:
            driver.execute(_SESSION.format(lock_milliseconds=int(self._busy_seconds * 1000)))
            if self._sole:
                self._take_lock(driver)
        except BaseException:
            driver.close()
            raise
        self._was_open = True
        return driver

    def _take_lock(self, driver: psycopg.Connection[Any]) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not driver.execute(_TAKE_LOCK).fetchone()[0]:  # type: ignore[index]
            if time.monotonic() > deadline:
                self._refuse(driver)
            time.sleep(_STEP_SECONDS)

    def _refuse(self, driver: psycopg.Connection[Any]) -> NoReturn:
        """Raise what is due when another session holds the lock."""
        place = printable(self._backend.place)
        holder = _holder(driver)
        if holder is not None and holder.name == self._name:
            # This process's own session of before, which the server has not missed yet.
            driver.execute("SELECT pg_terminate_backend(%s)", [holder.session])
            raise DatabaseUnavailableError(
                f"the database {place} still holds this daemon's lost session", hint="try again in a moment"
            )
        who = "?" if holder is None else holder.shown
        if self._was_open:
            raise DatabaseLostError(
                f"another daemon (pid {who}) took the database {place} over while its server was not reached",
                hint="run one daemon on a database; this one's images wait in the inbox",
            )
        raise UsageError(f"a daemon (pid {who}) already writes to {place}", hint=ONE_DAEMON_HINT)


def _conninfo(url: str, place: str) -> str:
    """Return what libpq connects with. Errors of libpq are not shown: they quote what may be a password."""
    rest, _, query = libpq_url(url).removeprefix("postgresql://").partition("?")
    login = rest.partition("/")[0]
    try:
        if (
            rest.count("@") > 1
            or "@" in rest[len(login) :]
            or ("@" in query and "@" not in rest and ":" in login)
        ):
            raise ValueError
        named = psycopg.conninfo.conninfo_to_dict(libpq_url(url))
    except (psycopg.Error, ValueError):
        raise UsageError(
            f"the address {printable(place)} cannot be read",
            hint="write postgresql://USER@HOST:PORT/DATABASE, with %40 %3A %2F for @ : / in a password",
        ) from None
    return psycopg.conninfo.make_conninfo("", **(_CONNECTING | named | {"client_encoding": "UTF8"}))


def _holder(driver: psycopg.Connection[Any]) -> Holder | None:
    row = driver.execute(_HOLDER, [_LOCK_CLASS_DAEMON]).fetchone()
    return None if row is None else Holder(*row)
