"""Results as a table for a person at a terminal: it fits the width, and says less rather than more.

When the width is short, first times lose the year and models their name, then the model goes, then the
time, then file names lose their beginning; a number is never broken. Names are shown relative to the
folder they share, which is named above the table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, TextIO

from config.text import printable, printable_name
from daemon.output.cells import when
from daemon.output.columns import Column, Kind
from daemon.output.plain_table import ABSENT, cell_text

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

# So much of a file name is worth more than a column that can be spared.
NAME_CHARACTERS = 16
# Below this many characters a file name says nothing; then the table is as wide as it must be.
FEWEST_NAME_CHARACTERS = 8
TEXT_CHARACTERS = 12
# A text up to this length is worth a shorter form of the others before it is wrapped.
UNWRAPPED_CHARACTERS = 40
GAP_CHARACTERS = 2
ELLIPSIS = "…"

_FLEXIBLE = frozenset({Kind.NAME, Kind.TEXT, Kind.MAPPING})


@dataclass(frozen=True, slots=True)
class TableStyle:
    """What the table asks about a row beyond its columns."""

    note: Callable[[Any], str | None]  # a line below the file name: why it is an error
    style: Callable[[Any], str]  # a rich style for the status
    brief: Callable[[str, str], str]  # (column, text) -> a shorter text for narrow terminals
    spare: tuple[str, ...] = ()  # columns that narrow terminals do without, the first first


@dataclass(frozen=True, slots=True)
class _Page:
    """The texts of a page: everything but names, which are cut to what is left of the width."""

    headers: list[str]
    cells: list[list[str]]
    base: bytes  # the folder the names share, with its slash


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where a table is printed."""

    stream: TextIO
    width: int  # characters
    color: bool


def print_terminal_table(
    rows: Sequence[Any],
    columns: Sequence[Column],
    zone: tzinfo,
    terminal: Terminal,
    *,
    look: TableStyle,
) -> None:
    """Print one page of rows."""
    from rich.console import Console

    width = terminal.width

    page, columns = _fitted(rows, columns, zone, look, width)
    widths = _widths(page, rows, columns, look, width)
    console = Console(
        file=terminal.stream,
        # Wider than the terminal rather than narrower than the numbers in it.
        width=max(width, sum(widths) + GAP_CHARACTERS * (len(widths) - 1)),
        color_system="auto" if terminal.color else None,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )
    if page.base:
        console.print(f"in {printable_name(page.base)}", style="dim")
    console.print(_table(page, rows, columns, look, widths), soft_wrap=False)


def _fitted(
    rows: Sequence[Any], columns: Sequence[Column], zone: tzinfo, look: TableStyle, width: int
) -> tuple[_Page, Sequence[Column]]:
    """Return the page and its columns: in short forms, and without what can be spared, where need be."""
    page = _page(rows, columns, zone, look, brief=False)
    if _needed(page, columns) <= width:
        return page, columns
    page = _page(rows, columns, zone, look, brief=True)
    for spared in look.spare:
        if _needed(page, columns) <= width:
            break
        columns = [column for column in columns if column.name != spared]
        page = _page(rows, columns, zone, look, brief=True)
    return page, columns


def shorten_left(text: str, width: int) -> str:
    """Return the end of `text` in at most `width` terminal cells: the end of a path tells most."""
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[1:]
    return ELLIPSIS + text


def _page(
    rows: Sequence[Any], columns: Sequence[Column], zone: tzinfo, look: TableStyle, *, brief: bool
) -> _Page:
    base = _shared_folder([column.read(row) for column in columns if column.name == "file" for row in rows])
    headers, by_column = [], []
    for column in columns:
        values = [column.read(row) for row in rows]
        header = "conf." if brief and column.name == "confidence" else column.name
        if column.kind is Kind.TIME:
            header, texts = _times(header, values, zone, brief=brief)
        elif column.name == "file":
            texts = [printable_name(value[len(base) :]) for value in values]
        else:
            texts = [cell_text(column, value, zone) for value in values]
        if brief:
            texts = [look.brief(column.name, text) for text in texts]
        headers.append(header)
        by_column.append(texts)
    return _Page(headers, [list(cells) for cells in zip(*by_column, strict=True)], base)


def _times(header: str, values: Sequence[int | None], zone: tzinfo, *, brief: bool) -> tuple[str, list[str]]:
    """Return the header and the times; an offset that all of them share stands in the header."""
    moments = [None if value is None else when(value, zone) for value in values]
    offsets = {moment.isoformat()[-6:] for moment in moments if moment is not None}
    form = "%m-%d %H:%M:%S" if brief else "%Y-%m-%d %H:%M:%S"
    if len(offsets) == 1:
        texts = [ABSENT if moment is None else moment.strftime(form) for moment in moments]
        return f"{header} {offsets.pop()}", texts
    return header, [ABSENT if it is None else it.strftime(form) + it.isoformat()[-6:] for it in moments]


def _shared_folder(names: Sequence[bytes]) -> bytes:
    """Return the folder all names lie in, with a slash; b"" when they share none but the root."""
    folders = {os.path.dirname(name) for name in names}
    if not folders or not all(folder.startswith(b"/") for folder in folders):
        return b""
    shared = os.path.commonpath(folders)
    return b"" if shared == b"/" else shared + b"/"


def _least(page: _Page, columns: Sequence[Column], name: int = NAME_CHARACTERS) -> list[int]:
    """Return the smallest useful width of each column: texts may be cut or wrapped, the rest may not."""
    return [
        min(width, name if column.kind is Kind.NAME else TEXT_CHARACTERS)
        if column.kind in _FLEXIBLE
        else width
        for width, column in zip(_wanted(page), columns, strict=True)
    ]


def _wanted(page: _Page) -> list[int]:
    from rich.cells import cell_len

    return [max(map(cell_len, texts)) for texts in zip(page.headers, *page.cells, strict=True)]


def _needed(page: _Page, columns: Sequence[Column]) -> int:
    """Return the width at which nothing but names, and the longest texts, is cut or wrapped."""
    widths = (
        min(width, NAME_CHARACTERS if column.kind is Kind.NAME else UNWRAPPED_CHARACTERS)
        for width, column in zip(_wanted(page), columns, strict=True)
    )
    return sum(widths) + GAP_CHARACTERS * (len(columns) - 1)


def _notes(rows: Sequence[Any], columns: Sequence[Column], look: TableStyle) -> list[str]:
    told = any(column.name == "reason" for column in columns)
    return ["" if told else look.note(row) or "" for row in rows]


def _table(
    page: _Page, rows: Sequence[Any], columns: Sequence[Column], look: TableStyle, widths: Sequence[int]
) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, header_style="bold"
    )
    notes = _notes(rows, columns, look)
    for header, column, characters in zip(page.headers, columns, widths, strict=True):
        right = column.kind in (Kind.INTEGER, Kind.CONFIDENCE)
        table.add_column(
            Text(header),
            justify="right" if right else "left",
            width=characters,
            overflow="fold",
            no_wrap=False,
        )
    noted = next((column.name for column in columns if column.kind is Kind.NAME), None)
    for row, texts, note in zip(rows, page.cells, notes, strict=True):
        table.add_row(
            *(
                _cell(text, column, characters, look.style(row), note if column.name == noted else "")
                for text, column, characters in zip(texts, columns, widths, strict=True)
            )
        )
    return table


def _widths(
    page: _Page, rows: Sequence[Any], columns: Sequence[Column], look: TableStyle, width: int
) -> list[int]:
    """Return the columns' widths: what is left of the line goes to the small needs first."""
    room = width - GAP_CHARACTERS * (len(columns) - 1)
    lacking = max(0, sum(_least(page, columns)) - room)
    widths = _least(page, columns, max(FEWEST_NAME_CHARACTERS, NAME_CHARACTERS - lacking))
    needs = _wanted(page)
    for number, column in enumerate(columns):
        if column.kind is Kind.NAME:
            needs[number] = max(needs[number], *map(len, _notes(rows, columns, look)), 0)
    left = room - sum(widths)
    for number in sorted(range(len(columns)), key=lambda index: needs[index] - widths[index]):
        more = min(max(0, left), needs[number] - widths[number])
        widths[number] += more
        left -= more
    return widths


def _cell(text: str, column: Column, characters: int, style: str, note: str) -> Text:
    from rich.text import Text

    if column.kind is Kind.NAME:
        cell = Text(shorten_left(text, characters))
        return cell.append("\n" + printable(note), style="dim") if note else cell
    if text == ABSENT:
        return Text(text, style="dim")
    if column.name == "status":
        return Text(text, style=style)
    return Text(text, style="bold" if column.name == "class" else "")
