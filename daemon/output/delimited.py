"""Results as CSV or TSV that opens safely: nothing is a formula, nothing drives a terminal.

Every text is printable (a newline in a file name is shown as an escape), and one that a spreadsheet
would compute starts with a quote. For names to the byte use JSON.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo
from typing import Any, TextIO

from daemon.output.cells import iso_time, name_text, spreadsheet_text
from daemon.output.columns import Column, Kind
from daemon.output.json_text import CONFIDENCE_DIGITS, json_text


def write_delimited(
    rows: Iterable[Any],
    columns: Sequence[Column],
    zone: tzinfo,
    stream: TextIO,
    *,
    delimiter: str = ",",
    header: bool = True,
) -> int:
    """Write a header and one record a row (RFC 4180, but lines end in LF); return the number of rows."""
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    if header:
        writer.writerow([spreadsheet_text(column.name) for column in columns])
    count = 0
    for row in rows:
        writer.writerow([_cell(column, column.read(row), zone) for column in columns])
        count += 1
    return count


def _cell(column: Column, value: Any, zone: tzinfo) -> str | int | float:
    if value is None:
        return ""
    form = _FORMS.get(column.kind)
    return spreadsheet_text(str(value)) if form is None else form(value, zone)


_FORMS: dict[Kind, Callable[[Any, tzinfo], str | int | float]] = {
    Kind.INTEGER: lambda value, _: int(value),
    Kind.CONFIDENCE: lambda value, _: round(float(value), CONFIDENCE_DIGITS),
    Kind.TIME: iso_time,
    Kind.NAME: lambda value, _: spreadsheet_text(name_text(value)),
    Kind.MAPPING: lambda value, _: spreadsheet_text(json_text(value)),
    Kind.FLAG: lambda value, _: "true" if value else "false",
}
