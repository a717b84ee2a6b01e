"""`bt-daemon results`: what came in, what was found, and how sure it is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from config.options import (
    Invocation,
    Place,
    joined,
    pass_invocation,
    program_options,
    setting_options,
)
from daemon.commands.filter_options import filter_options
from daemon.output.words import SCORE
from daemon.views.result_options import FORMATS
from storage.query import Grouping, ReviewFilter, Sort

if TYPE_CHECKING:
    import sqlalchemy as sa

    from daemon.views.result_options import Options, ResultRequest

GROUPINGS = tuple(grouping.value for grouping in Grouping)
SORTS = tuple(sort.value for sort in Sort)
REVIEWS = tuple(review.value for review in ReviewFilter)
MOST = 2**63 - 1  # what the database can count to


@click.command(
    short_help="What came in, what was found, and how sure it is.", epilog=f"{SCORE[0].upper()}{SCORE[1:]}."
)
@click.option(
    "--by",
    type=click.Choice(GROUPINGS),
    default="image",
    show_default=True,
    help="One row an image, or an answer for each series, study or patient.",
)
@filter_options()
@click.option(
    "--review",
    type=click.Choice(REVIEWS),
    help="Only images of which people said nothing, anything, what the model says, something else, that they "
    "are of another kind, or contradicting things.",
)
@click.option(
    "-n",
    "limit",
    type=click.IntRange(0, MOST),
    metavar="N",
    help="At most N; 0: none.  [default: a page at a terminal, else all]",
)
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="time",
    show_default=True,
    help="Newest or surest first; doubt: nearest to the threshold first.",
)
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option(
    "--columns",
    metavar="NAME,...",
    multiple=True,
    callback=joined,
    help="Which columns; all for all of them, tags.NAME for a DICOM tag.",
)
@click.option("--format", "form", type=click.Choice(FORMATS), help="[default: as FILE is called, else table]")
@click.option("-o", "output", type=Place(), metavar="FILE", help="Write to FILE.")
@click.option("--count", is_flag=True, help="Only how many images.")
@click.option("--summary", is_flag=True, help="How many images by class, status and model.")
@click.option("--follow", is_flag=True, help="Show new results as they come, until interrupted.")
@click.option("--utc", is_flag=True, help="Times in UTC instead of local time.")
@setting_options("series_quiet")
@partial(program_options, quiet_names=("--quiet",))
@pass_invocation
def command(invocation: Invocation, **options: Any) -> None:
    r"""Show results, newest first: file, class, score, time, model, status.

    A terminal gets a page, a pipe or a file all of them. In JSON a name that is not UTF-8 has its
    bytes in file_bytes_hex, too; what a spreadsheet would compute gets a quote in CSV and TSV.

    \b
    Examples:
      bt-daemon results --since today
      bt-daemon results --class yes --min-confidence 0.9 --sort confidence
      bt-daemon results --status error -q scanner-2
      bt-daemon results --since yesterday --until today -o yesterday.csv
      bt-daemon results --format jsonl --columns id,file,class | head
      bt-daemon results --sort doubt
      bt-daemon results --by series --class yes
      bt-daemon results --review corrected
      bt-daemon results --summary
    """
    from datetime import UTC, datetime

    from daemon.views.class_names import with_known_classes
    from daemon.views.reader import reader
    from daemon.views.result_options import Options, understood

    asked = Options(**options)
    request = understood(asked, datetime.now(UTC))
    _check_columns(request, invocation)
    if asked.follow:
        _follow(invocation, request)
        return
    with reader(invocation) as connection:
        _answer(connection, asked, with_known_classes(connection, request, invocation), invocation)


def _check_columns(request: ResultRequest, invocation: Invocation) -> None:
    """Refuse a misspelt column before a database is opened."""
    from daemon.views.listing import columns_of
    from daemon.views.series_listing import series_columns_of

    if request.by is Grouping.IMAGE:
        columns_of(request)
    else:
        series_columns_of(request, invocation)


def _answer(
    connection: sa.Connection | None, asked: Options, request: ResultRequest, invocation: Invocation
) -> None:
    from daemon.views.listing import list_results
    from daemon.views.series_listing import list_series, print_series_count, print_series_summary
    from daemon.views.summary import print_count, print_summary

    if request.by is not Grouping.IMAGE:
        if asked.count:
            print_series_count(connection, request)
        else:
            (print_series_summary if asked.summary else list_series)(connection, request, invocation)
    elif asked.count:
        print_count(connection, request, invocation)
    elif asked.summary:
        print_summary(connection, request, invocation)
    else:
        list_results(connection, request, invocation)


def _follow(invocation: Invocation, request: ResultRequest) -> None:
    from contextlib import suppress

    from daemon.views.class_names import with_known_classes
    from daemon.views.follow import follow
    from daemon.views.reader import reader
    from storage.database import open_reader
    from storage.database_errors import DatabaseMissingError

    with suppress(DatabaseMissingError), reader(invocation) as connection:
        request = with_known_classes(connection, request, invocation)
    try:
        follow(lambda: open_reader(invocation.settings.db), request)
    except KeyboardInterrupt:
        return  # the usual end of following
