"""List what waits for a person, what people said, and how often they agree with the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from config.text import printable
from daemon.output.columns import Column, chosen_columns
from daemon.output.result_columns import LOOK
from daemon.output.review_columns import (
    QUEUE,
    QUEUE_SHOWN,
    REVIEWS,
    REVIEWS_SHOWN,
    agreement_colour,
    queue_colour,
)
from daemon.output.sink import stdout_is_terminal
from daemon.output.table import print_table
from daemon.output.terminal_table import TableStyle
from daemon.output.words import scores_of
from daemon.views.listing import footer, say, write_rows
from daemon.views.reader import streamed
from daemon.views.review_summary import FIGURES, FIGURES_SHOWN, review_summary
from storage.schema import ReviewOrigin

if TYPE_CHECKING:
    from collections.abc import Iterable

    import sqlalchemy as sa

    from config.options import Invocation
    from daemon.views.result_options import ResultRequest
    from daemon.views.review_summary import CardOf
    from storage.reviews.review_queue import ReviewCandidate

ORIGINS: Mapping[str, tuple[ReviewOrigin, ...]] = {
    "uncertain": (ReviewOrigin.UNCERTAIN,),
    "near": (ReviewOrigin.NEAR,),
    "random": (ReviewOrigin.RANDOM,),
    "all": (ReviewOrigin.UNCERTAIN, ReviewOrigin.NEAR, ReviewOrigin.RANDOM),
}
_QUEUE_LOOK = TableStyle(
    note=lambda _: None, style=queue_colour, brief=lambda _, text: text, spare=("status",)
)
_REVIEWS_LOOK = TableStyle(
    note=lambda one: one.note or None,
    style=agreement_colour,
    brief=lambda _, text: text,
    spare=("why", "time"),
)

_FIGURES_LOOK = TableStyle(note=lambda _: None, style=lambda row: row.colour, brief=LOOK.brief)


def queue_of(
    connection: sa.Connection | None, request: ResultRequest, queue: str, limit: int
) -> list[ReviewCandidate]:
    """Return what waits for a person; nothing without a connection (no database yet)."""
    from storage.reviews.review_queue import candidates

    if connection is None:
        return []
    most = limit if request.query.limit is None else request.query.limit
    query = replace(request.query, limit=None)
    return candidates(connection, query, origins=ORIGINS[queue], limit=most) if most else []


def list_queue(
    found: Sequence[ReviewCandidate],
    connection: sa.Connection | None,
    request: ResultRequest,
    invocation: Invocation,
) -> None:
    """Print or write what waits, and below a table how much, and what people said so far."""
    _list(found, (QUEUE, QUEUE_SHOWN, _QUEUE_LOOK), request, invocation)
    if request.form != "table" or request.output is not None:
        return
    for line in _waiting_lines(connection, request, shown=len(found)):
        say(invocation, line)
    for line in scores_of(one.row for one in found):
        say(invocation, line)
    footer(invocation)


def list_done(connection: sa.Connection | None, request: ResultRequest, invocation: Invocation) -> None:
    """Print or write what people said, in the order in which they said it."""
    from storage.reviews.review_rows import review_rows

    with streamed(review_rows(connection, request.query) if connection is not None else ()) as rows:
        count = _list(rows, (REVIEWS, REVIEWS_SHOWN, _REVIEWS_LOOK), request, invocation)
    if request.form == "table" and request.output is None:
        if not count:
            say(invocation, "Nobody has said anything yet; bt-daemon review lists what waits.")
        footer(invocation)


def print_figures(
    connection: sa.Connection | None, request: ResultRequest, invocation: Invocation, card_of: CardOf
) -> None:
    """Print or write what people's answers say of each model, beside its card."""
    summary = review_summary(connection, request.query, card_of)
    rows = [row for one in summary.models for row in one.rows]
    _list(rows, (FIGURES, FIGURES_SHOWN, _FIGURES_LOOK), request, invocation)
    if request.form == "table" and request.output is None:
        for one in summary.models:
            say(invocation, f"{one.model}: {one.counts}")
            if one.caveat:
                say(invocation, f"  {one.caveat}")
        if not summary.models:
            say(invocation, "Nobody has said anything yet; bt-daemon review lists what waits.")
        footer(invocation)


def _list(
    rows: Iterable[Any],
    kind: tuple[Mapping[str, Column], Sequence[str], TableStyle],
    request: ResultRequest,
    invocation: Invocation,
) -> int:
    known, shown, look = kind
    every = request.form in ("json", "jsonl", "parquet", "csv", "tsv")
    columns = chosen_columns(request.columns, known, tuple(known) if every else shown)
    if request.form == "table" and request.output is None and stdout_is_terminal():
        listed = list(rows)
        if listed:
            print_table(listed, columns, request.zone, invocation, look=look)
        return len(listed)
    count = write_rows(rows, columns, request)
    if request.output is not None:
        say(invocation, f"{count} rows written to {printable(str(request.output))}")
    return count


def _waiting_lines(connection: sa.Connection | None, request: ResultRequest, shown: int) -> list[str]:
    from storage.reviews.review_queue import waiting

    if connection is None:
        return ["No results yet; start with bt-daemon watch DIR."]
    found = waiting(connection, request.query)
    lines = [] if shown else ["Nothing waits for a person."]
    uncertain = f"{found.uncertain:,} uncertain image{'' if found.uncertain == 1 else 's'}"
    reviewed = f"{found.reviewed:,} image{'' if found.reviewed == 1 else 's'} reviewed"
    disputed = f", {found.disputed:,} of them disputed" if found.disputed else ""
    lines.append(f"{uncertain} wait; {reviewed}{disputed}.")
    summary = review_summary(connection, request.query, lambda _: {})
    return [*lines, *summary.lines]
