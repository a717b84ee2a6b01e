"""List series, studies or patients: a page at a terminal, everything to a pipe or a file."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from config.text import printable
from daemon.output.columns import Column, chosen_columns
from daemon.output.series_columns import SERIES_LOOK, plain_columns, series_columns, terminal_columns
from daemon.output.sink import stdout_is_terminal, text_sink
from daemon.output.words import scores_of
from daemon.views.listing import PAGE_EXTRAS, PAGE_ROWS, footer, say, write_rows
from daemon.views.reader import streamed
from daemon.views.summary import write_summary

if TYPE_CHECKING:
    import sqlalchemy as sa

    from config.options import Invocation
    from daemon.views.result_options import ResultRequest
    from storage.queries.series_rows import SeriesRow
    from storage.query import Grouping

_PLURAL = {"series": "series", "study": "studies", "patient": "patients"}


def list_series(connection: sa.Connection | None, request: ResultRequest, invocation: Invocation) -> None:
    """Print or write what is concluded about each; without a connection (no database yet) there is none."""
    from storage.queries.series_rows import series_rows

    if request.form == "table" and request.output is None and stdout_is_terminal():
        _page(connection, request, invocation)
        return
    found: Iterable[SeriesRow] = ()
    if connection is not None:
        found = series_rows(connection, request.by, request.query)
    with streamed(found) as rows:
        count = write_rows(rows, series_columns_of(request, invocation), request)
    if request.output is not None:
        say(invocation, f"{count} rows written to {printable(str(request.output))}")
    elif request.form == "table" or sys.stderr.isatty():
        if not count and request.query.limit != 0:
            say(invocation, _nothing(connection, request.by))
        footer(invocation)


def print_series_count(connection: sa.Connection | None, request: ResultRequest) -> None:
    """Print how many series, studies or patients there are: of each model one."""
    from storage.queries.series_rows import series_count

    number = 0 if connection is None else series_count(connection, request.by, request.query)
    with text_sink(request.output) as stream:
        stream.write(f"{number}\n")


def print_series_summary(
    connection: sa.Connection | None, request: ResultRequest, invocation: Invocation
) -> None:
    """Print how many series, studies or patients each model gave which class and status."""
    from storage.queries.series_rows import series_summary

    found = [] if connection is None else series_summary(connection, request.by, request.query)
    total = sum(row.count for row in found)
    write_summary(found, f"{total:,} {_named(total, request.by)}", request, invocation)


def series_columns_of(
    request: ResultRequest, invocation: Invocation, *, terminal: bool = False
) -> list[Column]:
    """Return the columns that were chosen, else the ones that suit the format."""
    quiet_us = int(invocation.settings.series_quiet_seconds * 1e6)
    known = series_columns(time.time_ns() // 1000, quiet_us)
    suited = tuple(known) if request.form in ("json", "jsonl", "parquet") else plain_columns(request.by)
    return chosen_columns(request.columns, known, terminal_columns(request.by) if terminal else suited)


def _page(connection: sa.Connection | None, request: ResultRequest, invocation: Invocation) -> None:
    from daemon.output.table import print_table
    from storage.queries.series_rows import series_count, series_rows

    limit = request.query.limit
    if limit is None:
        limit = min(max(shutil.get_terminal_size().lines - PAGE_EXTRAS, PAGE_ROWS[0]), PAGE_ROWS[1])
    shown: list[SeriesRow] = []
    if connection is not None:
        shown = list(series_rows(connection, request.by, replace(request.query, limit=limit)))
    columns = series_columns_of(request, invocation, terminal=True)
    if not shown and limit:
        say(invocation, _nothing(connection, request.by))
        return
    if shown:
        print_table(shown, columns, request.zone, invocation, look=SERIES_LOOK)
    total = len(shown)
    if connection is not None and len(shown) == limit:
        total = series_count(connection, request.by, request.query)
    of_all = "" if total == len(shown) else f"{len(shown)} of "
    say(invocation, f"{of_all}{total} {_named(total, request.by)}.")
    for line in scores_of(shown):
        say(invocation, line)
    footer(invocation)


def _named(number: int, by: Grouping) -> str:
    return by.value if number == 1 else _PLURAL[by.value]


def _nothing(connection: sa.Connection | None, by: Grouping) -> str:
    """Return why there is nothing to show, as far as that can be told."""
    from storage.queries.series_rows import series_count
    from storage.query import Grouping, Query

    if connection is None or not series_count(connection, Grouping.SERIES, Query()):
        return "No series yet: DICOM series and volumes are, pictures are where watch --series says so."
    return f"No {_PLURAL[by.value]} match."
