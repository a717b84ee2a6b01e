"""List results: a page at a terminal, everything to a pipe or a file."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

import click

from config.errors import UsageError
from config.text import DISCLAIMER, printable
from daemon.output.columns import Column, chosen_columns
from daemon.output.result_columns import COLUMNS, EVERY, LOOK, PLAIN, TERMINAL
from daemon.output.review_columns import review_columns
from daemon.output.review_words import Said, together
from daemon.output.sink import binary_sink, stdout_is_terminal, text_sink
from daemon.output.words import counted, scores_of
from daemon.views.reader import streamed

if TYPE_CHECKING:
    import sqlalchemy as sa

    from config.options import Invocation
    from daemon.views.result_options import ResultRequest
    from storage.queries.totals import Totals
    from storage.query import Query

# A page has as many rows as the terminal has lines for, but no fewer and no more than these.
PAGE_ROWS = (10, 50)
# Lines of a page that are not rows: folder, header, rule, footer, prompt.
PAGE_EXTRAS = 7
# More than this nobody wants to scroll through.
SCROLLED_ROWS = 1000
NOBODY: Mapping[int, Said] = {}  # said anything


def list_results(connection: sa.Connection | None, request: ResultRequest, invocation: Invocation) -> None:
    """Print or write the results; without a connection (no database yet) there are none."""
    from storage.queries.results import rows

    if request.form == "table" and request.output is None and stdout_is_terminal():
        _page(connection, request, invocation)
        return
    columns = columns_of(request, said=_said(connection, request))
    with streamed(rows(connection, request.query) if connection is not None else ()) as found:
        count = write_rows(found, columns, request)
    if request.output is not None:
        say(invocation, f"{count} rows written to {printable(str(request.output))}")
    elif request.form == "table" or sys.stderr.isatty():
        if not count and request.query.limit != 0:
            say(invocation, _nothing(connection))
        footer(invocation)


def columns_of(
    request: ResultRequest, default: Sequence[str] | None = None, said: Mapping[int, Said] = NOBODY
) -> list[Column]:
    """Return the columns that were chosen, else the ones that suit the format.

    `said` is what people said of the images; it stands in a table only if reviews are asked for.
    """
    reviewed = review_columns(said)
    if default is None:
        default = (*EVERY, *reviewed) if request.form in ("json", "jsonl", "parquet") else PLAIN
    if request.query.review is not None:
        default = tuple(dict.fromkeys((*default, *reviewed)))
    return chosen_columns(request.columns, COLUMNS | reviewed, default)


def _said(connection: sa.Connection | None, request: ResultRequest) -> Mapping[int, Said]:
    """Return what people said of every image, if a column of it is shown."""
    from storage.reviews.review_rows import review_rows

    is_shown = {column.name for column in columns_of(request)} & review_columns(NOBODY).keys()
    return together(review_rows(connection)) if connection is not None and is_shown else NOBODY


def text_writer(form: str) -> Callable[[Iterable[Any], Sequence[Column], Any, TextIO], int]:
    """Return the function that writes rows as json, jsonl, csv, tsv or a plain table."""
    if form in ("json", "jsonl"):
        from daemon.output.json_text import write_json, write_json_lines

        return write_json if form == "json" else write_json_lines
    if form in ("csv", "tsv"):
        from daemon.output.delimited import write_delimited

        return partial(write_delimited, delimiter="," if form == "csv" else "\t")
    from daemon.output.plain_table import write_plain_table

    return write_plain_table


def footer(invocation: Invocation) -> None:
    """Say below results that a person reads what they are not."""
    say(invocation, DISCLAIMER)


def say(invocation: Invocation, text: str) -> None:
    """Tell the person at the terminal something that is not data, unless -q."""
    if invocation.verbosity >= 0:
        click.echo(text, err=True)


def write_rows(found: Iterable[Any], columns: Sequence[Column], request: ResultRequest) -> int:
    """Write rows in the format that is asked for to where it is asked for; return how many."""
    if request.form == "parquet":
        return _write_parquet(found, columns, request)
    with text_sink(request.output) as stream:
        return text_writer(request.form)(found, columns, request.zone, stream)


def _write_parquet(found: Iterable[Any], columns: Sequence[Column], request: ResultRequest) -> int:
    from daemon.output.parquet import require_pyarrow, write_parquet

    require_pyarrow()
    if request.output is None and stdout_is_terminal():
        raise UsageError("Parquet is not for reading at a terminal", hint="give a file with -o")
    with binary_sink(request.output) as stream:
        return write_parquet(found, columns, stream)


def _page(connection: sa.Connection | None, request: ResultRequest, invocation: Invocation) -> None:
    from daemon.output.table import print_table
    from storage.queries.results import rows
    from storage.queries.totals import Totals, totals

    size = shutil.get_terminal_size()
    limit = request.query.limit
    if limit is None:
        limit = min(max(size.lines - PAGE_EXTRAS, PAGE_ROWS[0]), PAGE_ROWS[1])
    shown = list(rows(connection, replace(request.query, limit=limit))) if connection is not None else []
    columns = columns_of(request, TERMINAL, _said(connection, request))
    if not shown and limit:
        say(invocation, _nothing(connection))
        return
    if shown:
        print_table(shown, columns, request.zone, invocation, look=LOOK)
    found: Totals | None = None
    if len(shown) < limit:
        models = {row.weights_sha256 for row in shown}
        found = Totals(len({row.id for row in shown}), len(shown), len(models))
    elif connection is not None and _is_counted_ahead(request.query):
        found = totals(connection, request.query)
    say(invocation, _how_many(len(shown), found))
    for line in scores_of(shown):
        say(invocation, line)
    footer(invocation)


def _is_counted_ahead(query: Query) -> bool:
    """Whether the total is known without a look at every row, which may take seconds."""
    from storage.queries.results import needs_rows

    return not needs_rows(query)


def _how_many(shown: int, found: Totals | None) -> str:
    if found is None:
        return f"The first {shown} results; --count counts all, -o results.csv saves all."
    total = found.judgements
    several = "" if found.images == total else f" ({counted(found)})"
    if shown >= total:
        return f"{total} result{'' if total == 1 else 's'}{several}."
    all_of_them = f"-n {total} shows all, " if total <= SCROLLED_ROWS else ""
    return f"{shown} of {total} results{several}; {all_of_them}-o results.csv saves all."


def _nothing(connection: sa.Connection | None) -> str:
    """Return why there is nothing to show, as far as that can be told."""
    from storage.queries.results import last_result_id

    if connection is None or not last_result_id(connection):
        return "No results yet; start with bt-daemon watch DIR."
    return "No results match."
