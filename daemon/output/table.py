"""A table for whoever reads stdout: fitted to a terminal, complete in a pipe."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any

from config.options import Invocation
from daemon.output.columns import Column
from daemon.output.facts import style_of
from daemon.output.sink import stdout_is_terminal, text_sink
from daemon.output.terminal_table import TableStyle, Terminal, print_terminal_table


def print_table(
    rows: Iterable[Any],
    columns: Sequence[Column],
    zone: tzinfo,
    invocation: Invocation,
    *,
    look: TableStyle,
    page_columns: Sequence[Column] | None = None,
) -> None:
    """Print rows; at a terminal with `page_columns`, where the notes of `look` tell the rest."""
    if not stdout_is_terminal():
        from daemon.output.plain_table import write_plain_table

        with text_sink(None) as stream:
            write_plain_table(rows, columns, zone, stream)
        return
    print_terminal_table(
        list(rows),
        page_columns or columns,
        zone,
        Terminal(sys.stdout, shutil.get_terminal_size().columns, style_of(invocation).enabled),
        look=look,
    )
    sys.stdout.flush()
