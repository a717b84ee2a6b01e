"""How many results there are: one number, or by class and status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from daemon.listing import footer, text_writer
from daemon.output.columns import Column, Kind
from daemon.output.facts import style_of
from daemon.output.sink import stdout_is_terminal, text_sink

if TYPE_CHECKING:
    import sqlalchemy as sa

    from config.options import Invocation
    from daemon.output.facts import Style
    from daemon.results_request import Request
    from storage.results import SummaryRow

COLUMNS = (
    Column("class", Kind.TEXT, lambda row: row.label),
    Column("status", Kind.TEXT, lambda row: row.status.value),
    Column("count", Kind.INTEGER, lambda row: row.count),
)
# The longest bar of the summary, in characters.
BAR = 40
_COLORS = {"ok": "green", "uncertain": "yellow", "rejected": "magenta", "error": "red"}


def print_count(connection: sa.Connection | None, request: Request) -> None:
    """Print the number of results, which is valid JSON as well."""
    from storage.results import count

    with text_sink(request.output) as stream:
        stream.write(f"{count(connection, request.query) if connection is not None else 0}\n")


def print_summary(connection: sa.Connection | None, request: Request, invocation: Invocation) -> None:
    """Print how many results there are by class and status, most frequent first."""
    from storage.results import summary

    found = summary(connection, request.query) if connection is not None else []
    if request.form == "parquet":
        _write_parquet(found, request)
        return
    with text_sink(request.output) as stream:
        if request.form == "table" and request.output is None and stdout_is_terminal():
            stream.write(_bars(found, style_of(invocation)))
        else:
            text_writer(request.form)(found, COLUMNS, request.zone, stream)
    if request.form == "table":
        footer(invocation)


def _write_parquet(found: Sequence[SummaryRow], request: Request) -> None:
    from daemon.output.parquet import require_pyarrow, write_parquet
    from daemon.output.sink import binary_sink

    require_pyarrow()
    with binary_sink(request.output) as stream:
        write_parquet(found, COLUMNS, stream)


def _bars(found: Sequence[SummaryRow], style: Style) -> str:
    """Return a line per class and status with its share as a bar."""
    from daemon.output.plain_table import cell_text
    from storage.when import local_zone

    zone = local_zone()
    total = sum(row.count for row in found)
    cells = [[cell_text(column, column.read(row), zone) for column in COLUMNS] for row in found]
    widths = [max(map(len, column), default=0) for column in zip(*cells, strict=True)] or [0, 0, 0]
    lines = []
    for row, (label, status, number) in zip(found, cells, strict=True):
        share = row.count / total
        color = _COLORS[row.status.value]
        bar = style("█" * max(1, round(share * BAR)), color)
        lines.append(
            f"{label.ljust(widths[0])}  {style(status.ljust(widths[1]), color)}  "
            f"{number.rjust(widths[2])}  {100 * share:5.1f} %  {bar}\n"
        )
    return "".join(lines) + style(f"{total} results\n", bold=True)
