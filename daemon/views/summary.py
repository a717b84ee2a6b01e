"""Print how many results there are: one number, or by class and status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from config.text import printable
from daemon.output.columns import Column, Kind
from daemon.output.facts import style_of
from daemon.output.result_columns import SHORT_HASH
from daemon.output.sink import stdout_is_terminal, text_sink
from daemon.output.words import STATUS_COLOURS, counted
from daemon.views.listing import footer, say, text_writer

if TYPE_CHECKING:
    import sqlalchemy as sa

    from config.options import Invocation
    from daemon.output.facts import Style
    from daemon.views.result_options import ResultRequest
    from storage.queries.totals import ModelSummaryRow


def _model(row: ModelSummaryRow) -> str:
    return f"{row.name} {row.version} {row.weights_sha256[:SHORT_HASH]}"


COLUMNS = (
    Column("class", Kind.TEXT, lambda row: row.label),
    Column("status", Kind.TEXT, lambda row: row.status.value),
    Column("count", Kind.INTEGER, lambda row: row.count),
    Column("model", Kind.TEXT, _model),
)
# The longest bar of the summary, in characters.
BAR = 40


def print_count(connection: sa.Connection | None, request: ResultRequest, invocation: Invocation) -> None:
    """Print the number of images, which is valid JSON as well; say it if there are more judgements."""
    from storage.queries.totals import Totals, totals

    found = totals(connection, request.query, patient=True) if connection is not None else Totals(0, 0, 0)
    with text_sink(request.output) as stream:
        stream.write(f"{found.images}\n")
    if found.images != found.judgements:
        say(invocation, f"{counted(found)}.")


def print_summary(connection: sa.Connection | None, request: ResultRequest, invocation: Invocation) -> None:
    """Print how many images each model gave which class and status, most frequent first."""
    from storage.queries.totals import Totals, summary_by_model, totals

    found = summary_by_model(connection, request.query) if connection is not None else []
    total = totals(connection, request.query) if connection is not None else Totals(0, 0, 0)
    write_summary(found, counted(total), request, invocation)


def write_summary(
    found: Sequence[ModelSummaryRow], total: str, request: ResultRequest, invocation: Invocation
) -> None:
    """Write how many there are by class and status; `total` is the last line of the bars."""
    if request.form == "parquet":
        _write_parquet(found, request)
        return
    with text_sink(request.output) as stream:
        if request.form == "table" and request.output is None and stdout_is_terminal():
            stream.write(_bars(found, total, style_of(invocation)))
        else:
            text_writer(request.form)(found, COLUMNS, request.zone, stream)
    if request.form == "table":
        footer(invocation)


def _write_parquet(found: Sequence[ModelSummaryRow], request: ResultRequest) -> None:
    from daemon.output.parquet import require_pyarrow, write_parquet
    from daemon.output.sink import binary_sink

    require_pyarrow()
    with binary_sink(request.output) as stream:
        write_parquet(found, COLUMNS, stream)


def _bars(found: Sequence[ModelSummaryRow], total: str, style: Style) -> str:
    """Return a line per class and status with its share as a bar, model by model where there are several."""
    models: dict[str, list[ModelSummaryRow]] = {}
    for row in found:
        models.setdefault(row.weights_sha256, []).append(row)
    parts = []
    for rows in models.values():
        if len(models) > 1:
            parts.append(style(f"{printable(_model(rows[0]))}\n", dim=True))
        parts.append(_bars_of(rows, style))
    return "".join(parts) + style(f"{total}\n", bold=True)


def _bars_of(found: Sequence[ModelSummaryRow], style: Style) -> str:
    from config.when import local_zone
    from daemon.output.plain_table import cell_text

    zone = local_zone()
    total = sum(row.count for row in found)
    cells = [[cell_text(column, column.read(row), zone) for column in COLUMNS[:3]] for row in found]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row, (label, status, number) in zip(found, cells, strict=True):
        share = row.count / total
        color = STATUS_COLOURS[row.status.value]
        bar = style("█" * max(1, round(share * BAR)), color)
        lines.append(
            f"{label.ljust(widths[0])}  {style(status.ljust(widths[1]), color)}  "
            f"{number.rjust(widths[2])}  {100 * share:5.1f} %  {bar}\n"
        )
    return "".join(lines)
