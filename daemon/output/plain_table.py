"""Results as a plain table for pipes and files: nothing cut, no colours, no lines, any number of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import tzinfo
from itertools import chain, islice
from typing import Any, TextIO

from config.text import printable, printable_name
from daemon.output.cells import clock_time, confidence_text
from daemon.output.columns import Column, Kind
from daemon.output.json_text import json_text

# So many rows are looked at to find the widths; a later, longer value pushes its line, nothing is cut.
SAMPLE_ROWS = 500
# A cell without a value; blank would make two columns look like one.
ABSENT = "-"
GAP = "  "


def write_plain_table(rows: Iterable[Any], columns: Sequence[Column], zone: tzinfo, stream: TextIO) -> int:
    """Write a header and one line a row; return the number of rows."""
    lines = ([cell_text(column, column.read(row), zone) for column in columns] for row in rows)
    sample = list(islice(lines, SAMPLE_ROWS))
    header = [column.name for column in columns]
    widths = [max(map(len, cells)) for cells in zip(header, *sample, strict=True)]
    right = [column.kind in (Kind.INTEGER, Kind.CONFIDENCE) for column in columns]
    count = -1
    for count, cells in enumerate(chain([header], sample, lines)):  # noqa: B007 - used after the loop
        stream.write(GAP.join(_padded(cells, widths, right)).rstrip() + "\n")
    return count


def cell_text(column: Column, value: Any, zone: tzinfo) -> str:
    """Return one value complete and safe to show."""
    if value is None or value == "":
        return ABSENT
    if column.kind is Kind.TIME:
        return clock_time(value, zone)
    if column.kind is Kind.CONFIDENCE:
        return confidence_text(value)
    if column.kind is Kind.NAME:
        return printable_name(value)
    if column.kind is Kind.MAPPING:
        return json_text(value)
    return printable(str(value))


def _padded(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> Iterator[str]:
    for cell, width, to_the_right in zip(cells, widths, right, strict=True):
        yield cell.rjust(width) if to_the_right else cell.ljust(width)
