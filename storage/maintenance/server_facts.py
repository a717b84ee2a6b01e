"""Facts of a database on a server, and what its own tools are for."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass

import sqlalchemy as sa

from config.database_url import without_password
from config.errors import UsageError
from config.text import printable
from storage.backend.backend import backend_of
from storage.database import Target, backend_for, reading

# What a server that loses commits in a crash has switched off.
DURABILITY = ("fsync", "full_page_writes")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What can be said of a database on a server without asking what is in it."""

    place: str  # without a password
    revision: str | None  # None: no tables of ours yet
    size_bytes: int
    server_version: str
    not_durable: tuple[str, ...]  # settings of DURABILITY that are off


def server_facts(target: Target) -> ServerFacts:
    """Return what a server says of its database; raises DatabaseError if it is not there or not reached."""
    backend = backend_for(target)
    with closing(backend.open_any()) as connection, reading(connection):
        settings = sa.text("SELECT name FROM pg_settings WHERE name = ANY(:names) AND setting = 'off'")
        size = sa.text("SELECT pg_database_size(current_database())")
        return ServerFacts(
            place=backend.place,
            revision=backend_of(connection).stored_revision(connection),
            size_bytes=int(connection.execute(size).scalar_one()),
            server_version=str(connection.exec_driver_sql("SHOW server_version").scalar_one()),
            not_durable=tuple(sorted(connection.execute(settings, {"names": list(DURABILITY)}).scalars())),
        )


def refuse_copies(target: Target, what: str, program: str) -> None:
    """Raise UsageError that names the server's own program for what is only done to files here."""
    place = printable(without_password(os.fspath(target)))
    raise UsageError(f"{what} is for database files, {place} lies on a server", hint=f"use {program}")
