"""Results as a plain table for pipes and files: nothing cut, no colours, no lines, any number of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    return PlainTable(columns, zone, stream).write(rows)


class PlainTable:
    """A table that goes on: the widths are those of the first rows that were written."""

    def __init__(
        self, columns: Sequence[Column], zone: tzinfo, stream: TextIO, least: Mapping[str, int] | None = None
    ) -> None:
        """`least` gives columns, by name, a width that they have in any case."""
        self._columns = columns
        self._zone = zone
        self._stream = stream
        self._least = [(least or {}).get(column.name, 0) for column in columns]
        self._right = [column.kind in (Kind.INTEGER, Kind.CONFIDENCE) for column in columns]
        self._widths: list[int] = []

    def write(self, rows: Iterable[Any]) -> int:
        """Write one line a row, the first time below a header; return the number of rows."""
        lines = (self._cells(row) for row in rows)
        if not self._widths:
            sample = list(islice(lines, SAMPLE_ROWS))
            header = [column.name for column in self._columns]
            lengths = ([len(cell) for cell in cells] for cells in (header, *sample))
            self._widths = [max(column) for column in zip(self._least, *lengths, strict=True)]
            self._line(header)
        else:
            sample = []
        count = 0
        for cells in chain(sample, lines):
            self._line(cells)
            count += 1
        return count

    def _cells(self, row: Any) -> list[str]:
        return [cell_text(column, column.read(row), self._zone) for column in self._columns]

    def _line(self, cells: Sequence[str]) -> None:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, self._widths, self._right, strict=True)
        )
        self._stream.write(GAP.join(padded).rstrip() + "\n")


def cell_text(column: Column, value: Any, zone: tzinfo) -> str:
    """Return one value complete and safe to show."""
    if value is None or value == "":
        return ABSENT
    form = _FORMS.get(column.kind)
    return printable(str(value)) if form is None else form(value, zone)


_FORMS: dict[Kind, Callable[[Any, tzinfo], str]] = {
    Kind.TIME: clock_time,
    Kind.CONFIDENCE: lambda value, _: confidence_text(value),
    Kind.NAME: lambda value, _: printable_name(value),
    Kind.MAPPING: lambda value, _: json_text(value),
    Kind.FLAG: lambda value, _: "yes" if value else "no",
}
