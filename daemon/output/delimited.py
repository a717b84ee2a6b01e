"""Results as CSV or TSV that opens safely: nothing is a formula, nothing drives a terminal.

Every text is printable (a newline in a file name is shown as an escape), and one that a spreadsheet
would compute starts with a quote. For names to the byte use JSON.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
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
    if column.kind is Kind.INTEGER:
        return int(value)
    if column.kind is Kind.CONFIDENCE:
        return round(float(value), CONFIDENCE_DIGITS)
    if column.kind is Kind.TIME:
        return iso_time(value, zone)
    if column.kind is Kind.NAME:
        return spreadsheet_text(name_text(value))
    return spreadsheet_text(json_text(value) if column.kind is Kind.MAPPING else str(value))
