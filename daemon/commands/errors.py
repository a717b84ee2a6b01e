"""`bt-daemon errors`: which images could not be judged, why, and what happens next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from config.options import Invocation, pass_invocation, program_options

if TYPE_CHECKING:
    from datetime import tzinfo

    import sqlalchemy as sa

    from daemon.output.columns import Column
    from storage.queries.history import TroubledFile

# At a terminal, where older ones would scroll away what matters.
PAGE_ROWS = 50


@click.command(short_help="Which images could not be judged, and why.")
@click.option("--by-cause", is_flag=True, help="How many of each cause instead of each image.")
@click.option(
    "-n",
    "limit",
    type=click.IntRange(1, 2**63 - 1),
    metavar="N",
    help="At most N, the latest first.  [default: 50 at a terminal, else all]",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--utc", is_flag=True, help="Times in UTC instead of local time.")
@program_options
@pass_invocation
def command(invocation: Invocation, by_cause: bool, limit: int | None, as_json: bool, utc: bool) -> None:
    r"""List images that were given up (quarantined) or wait for another try, with the reason.

    \b
    Examples:
      bt-daemon errors
      bt-daemon errors --by-cause
      bt-daemon errors --json
    """
    from datetime import UTC

    from config.when import local_zone
    from daemon.output.trouble_columns import CAUSES, EVERY, causes
    from daemon.views.reader import reader, streamed

    zone = UTC if utc else local_zone()
    with reader(invocation) as connection, streamed(_troubled(connection)) as images:
        found: Any = islice(causes(images) if by_cause else images, limit)
        columns = CAUSES if by_cause else EVERY
        if as_json:
            _print_json(found, columns, zone)
        else:
            _print(found, columns, zone, invocation, by_cause=by_cause, limited=limit is not None)
            _say_moves(connection, invocation)


def _troubled(connection: sa.Connection | None) -> Iterable[TroubledFile]:
    from storage.queries.history import troubled

    return troubled(connection) if connection is not None else ()


def _say_moves(connection: sa.Connection | None, invocation: Invocation) -> None:
    """Say how many judged files cannot be moved away, and why."""
    from daemon.views.daemon_status import moves_text
    from daemon.views.listing import say
    from storage.ledger.heartbeat import move_troubles

    if connection is not None and (text := moves_text(move_troubles(connection))):
        say(invocation, f"Moves: {text}.")


def _print_json(found: Any, columns: Sequence[Column], zone: tzinfo) -> None:
    from daemon.output.json_text import write_json
    from daemon.output.sink import text_sink

    with text_sink(None) as stream:
        write_json(found, columns, zone, stream)


def _print(
    found: Any,
    columns: Sequence[Column],
    zone: tzinfo,
    invocation: Invocation,
    *,
    by_cause: bool,
    limited: bool,
) -> None:
    from daemon.output.sink import stdout_is_terminal
    from daemon.output.table import print_table
    from daemon.output.trouble_columns import LOOK, PAGE
    from daemon.views.listing import say

    cut = stdout_is_terminal() and not limited
    rows = list(islice(found, PAGE_ROWS + 1 if cut else None))
    if not rows:
        say(invocation, "No image is in trouble.")
        return
    shown = rows[:PAGE_ROWS] if cut else rows
    print_table(shown, columns, zone, invocation, look=LOOK, page_columns=None if by_cause else PAGE)
    if len(shown) < len(rows):
        say(invocation, f"The latest {PAGE_ROWS}; -n 1000 shows more, --by-cause sums them up.")
    say(invocation, "Put back with bt-daemon retry ID or --all; bt-daemon show ID tells all of one.")
