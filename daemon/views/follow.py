"""`bt-daemon results --follow`: the latest results, and then each new one as it is committed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daemon.views.listing import columns_of
from storage.database_errors import DatabaseMissingError
from storage.queries.results import last_result_id, rows
from storage.query import Query, Sort

if TYPE_CHECKING:
    import sqlalchemy as sa

    from daemon.views.result_options import ResultRequest
    from storage.queries.results import ResultRow

# How often the database is asked; a question about nothing new takes well under a millisecond.
POLL_SECONDS = 0.25
# What was there before is shown so far, as `tail -f` does.
RECENT_ROWS = 10
# The widths of columns whose values are still to come.
LEAST_WIDTHS = {"id": 6, "time": 25, "file": 36, "class": 10, "status": 9, "model": 22}


def follow(
    open_reader: Callable[[], sa.Connection],
    request: ResultRequest,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Print results until interrupted; a database that is not there yet is waited for."""
    write = _writer(request)
    for batch in batches(open_reader, request.query, wait):
        write(batch)
        sys.stdout.flush()


def batches(
    open_reader: Callable[[], sa.Connection], query: Query, wait: Callable[[float], None]
) -> Iterator[list[ResultRow]]:
    """Yield the latest results, oldest first, then whatever is committed, for ever."""
    with closing(_opened(open_reader, wait)) as connection:
        last = last_result_id(connection)
        yield _latest(connection, query)
        query = replace(query, sort=Sort.ID, reverse=True, limit=None)
        while True:
            newest = last_result_id(connection)
            if newest > last:
                found = list(rows(connection, replace(query, after_result_id=last)))
                last = max([newest, *(row.result_id for row in found)])
                yield found
            wait(POLL_SECONDS)


def _opened(open_reader: Callable[[], sa.Connection], wait: Callable[[float], None]) -> sa.Connection:
    while True:
        try:
            return open_reader()
        except DatabaseMissingError:
            wait(POLL_SECONDS)


def _latest(connection: sa.Connection, query: Query) -> list[ResultRow]:
    limit = RECENT_ROWS if query.limit is None else query.limit
    found = list(rows(connection, replace(query, sort=Sort.ID, reverse=False, limit=limit)))
    return found[::-1]


def _writer(request: ResultRequest) -> Callable[[Iterable[ResultRow]], Any]:
    columns = columns_of(request)
    stream = sys.stdout
    if request.form == "jsonl":
        from daemon.output.json_text import write_json_lines

        return lambda batch: write_json_lines(batch, columns, request.zone, stream)
    if request.form in ("csv", "tsv"):
        return _delimited(request, columns)
    from daemon.output.plain_table import PlainTable

    table = PlainTable(columns, request.zone, stream, least=LEAST_WIDTHS)
    return table.write


def _delimited(request: ResultRequest, columns: Any) -> Callable[[Iterable[ResultRow]], Any]:
    from daemon.output.delimited import write_delimited

    first = True

    def write(batch: Iterable[ResultRow]) -> None:
        nonlocal first
        delimiter = "," if request.form == "csv" else "\t"
        write_delimited(batch, columns, request.zone, sys.stdout, delimiter=delimiter, header=first)
        first = False

    return write
