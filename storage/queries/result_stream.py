"""All results of a query in any order, one at a time and in bounded memory, for a page's exports."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from itertools import islice

import sqlalchemy as sa

from storage.database import reading
from storage.queries.budget import Budget
from storage.queries.result_page import ordered_ids, rows_of
from storage.queries.results import ResultRow, rows
from storage.queries.text_match import find_text
from storage.query import Query, Sort

# Rows that are fetched by their ids at a time.
_BATCH = 500


def result_stream(connection: sa.Connection, query: Query) -> Generator[ResultRow]:
    """Yield every result of a query, whatever its limit and page, in one consistent view of the database.

    Orders that no index has are sorted by SQLite as pairs of value and id, in files where they are many.
    """
    query = replace(query, limit=None, after=None)
    if query.sort in (Sort.TIME, Sort.ID) and not query.text:
        yield from rows(connection, query)
        return
    if connection.dialect.name == "sqlite":  # a server has its own place for what is sorted
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("PRAGMA temp_store = FILE").close()
    with reading(connection):
        match = find_text(connection, query.text, Budget(math.inf)) if query.text else None
        ids = ordered_ids(connection, query, match)
        while batch := list(islice(ids, _BATCH)):
            yield from rows_of(connection, batch)
