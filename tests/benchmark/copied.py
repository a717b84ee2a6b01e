"""A database in a file, copied to a PostgreSQL server: benchmarks ask the same rows on both."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
from psycopg import sql

from storage.schema import metadata

_BATCH = 10_000


def copy_to_server(file: Path, url: str) -> None:
    """Copy all rows of a file into the empty tables of a database on a server."""
    with psycopg.connect(url, autocommit=True) as server, closing(sqlite3.connect(file)) as source:
        # Rows of a database that is whole: their references need no second look.
        server.execute("SET session_replication_role = replica")
        for table in metadata.sorted_tables:
            columns = table.columns.keys()
            rows = source.execute(f"SELECT {', '.join(columns)} FROM {table.name}")
            target = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, columns))
            )
            with server.cursor() as cursor, cursor.copy(target) as copy:
                while batch := rows.fetchmany(_BATCH):
                    for row in batch:
                        copy.write_row(row)
        server.execute("VACUUM ANALYZE")
