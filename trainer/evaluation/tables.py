"""Text tables of reports, drawn by rich: the first column to the left, figures to the right, no lines."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

# The figures that a table of sources or rounds shows.
COLUMNS = ("accuracy", "sensitivity", "specificity", "roc_auc", "ece")
_WIDEST = 10_000  # characters: nothing is wrapped


def text_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells below their heads as lines of text."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    stream = io.StringIO()
    Console(file=stream, width=_WIDEST, markup=False, highlight=False, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def figure_cell(figure: Any, *, interval: bool = False) -> str:
    """Return a figure of a report ({value, low, high}, or nothing) as a table shows it."""
    value = figure.get("value") if isinstance(figure, Mapping) else None
    if value is None:
        return "-"
    low, high = figure.get("low"), figure.get("high")
    return f"{value:.3f} ({low:.3f}-{high:.3f})" if interval and low is not None else f"{value:.3f}"
