"""`bt-daemon review`: what a person should look at, and what people said."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.errors import UsageError
from config.options import Invocation, Place, joined, pass_invocation, program_options
from config.text import DISCLAIMER, printable, printable_name
from daemon.commands.filter_options import filter_options
from daemon.views.result_options import FORMATS
from storage.query import ReviewFilter

if TYPE_CHECKING:
    import sqlalchemy as sa

    from daemon.exchange.review_csv import BadLine
    from daemon.exchange.review_dataset import DatasetWritten
    from daemon.exchange.review_import import Imported
    from daemon.heatmaps.model_lookup import ModelsAtHand
    from daemon.views.result_options import ResultRequest

QUEUES = ("uncertain", "near", "random", "all")
_SHOWN_LINES = 50  # of a file that cannot be imported
_SHOWN_FILES = 10  # of images that are left out of a dataset
_DEFAULT_LIMIT = 50


@click.command(short_help="What a person should look at, and what people said.", epilog=DISCLAIMER)
@click.option(
    "--queue", type=click.Choice(QUEUES), default="all", show_default=True,
    help="Of what waits: the uncertain, those near the threshold, a random sample, or one after the other.",
)  # fmt: skip
@click.option("--done", is_flag=True, help="What people said instead of what waits for them.")
@click.option("--summary", is_flag=True, help="How often people agree with each model, with 95 % intervals.")
@filter_options()
@click.option(
    "--review", type=click.Choice([one.value for one in ReviewFilter][1:]),
    help="With --done or --export-dataset: only images about which this was said.",
)  # fmt: skip
@click.option(
    "-n", "--limit", type=click.IntRange(0, 2**63 - 1), metavar="N",
    help=f"At most N.  [default: {_DEFAULT_LIMIT} of what waits, all of what was said]",
)  # fmt: skip
@click.option(
    "--columns", metavar="NAME,...", multiple=True, callback=joined, help="Which columns; all for all."
)
@click.option("--format", "form", type=click.Choice(FORMATS), help="[default: as FILE is called, else table]")
@click.option("-o", "output", type=Place(), metavar="FILE", help="Write the list to FILE.")
@click.option("--export", type=Place(), metavar="FILE|-", help="Write CSV to fill in; --done: as filled in.")
@click.option(
    "--import", "source", type=Place(), metavar="FILE|-", help="Read such CSV back: all or nothing."
)
@click.option(
    "--reviewer", metavar="NAME", help="Who answers, where the CSV names nobody.  [default: the login name]"
)
@click.option(
    "--export-dataset", "dataset", type=Place(), metavar="DIR", help="Write class folders to train on."
)
@click.option(
    "--link/--copy", "is_linked", default=False, help="Hard links in DIR or copies.  [default: copies]"
)
@click.option("--overwrite", is_flag=True, help="Write over an earlier dataset in DIR.")
@click.option("--utc", is_flag=True, help="Times in UTC instead of local time.")
@partial(program_options, quiet_names=("--quiet",))
@pass_invocation
def command(invocation: Invocation, **options: Any) -> None:
    r"""List what waits for a person: uncertain first, then near the threshold, then a random sample.

    Answers are given on the page (bt-daemon web --write) or in a CSV: put a class, other-kind (no image of
    the kind the model is for) or skip into the column answer, a note if you like, and import it. Importing
    a file again adds nothing. Answers stand beside the results and change none of them.

    How good a model is, only the random sample tells: what it doubted is wrong more often than the rest.

    \b
    Examples:
      bt-daemon review
      bt-daemon review --export doubtful.csv -n 30
      bt-daemon review --import doubtful.csv --reviewer 'A. Jones'
      bt-daemon review --queue random -n 200 --export sample.csv
      bt-daemon review --summary
      bt-daemon review --done --review corrected
      bt-daemon review --export-dataset reviewed
    """
    source, export, dataset, reviewer = (
        options.pop(name) for name in ("source", "export", "dataset", "reviewer")
    )
    writing = {name: options.pop(name) for name in ("is_linked", "overwrite")}
    _refuse_contradictions(options, source=source, export=export, dataset=dataset)
    if source is not None:
        _import(invocation, source, reviewer)
    elif dataset is not None:
        _export_dataset(invocation, options, dataset, **writing)
    else:
        _list(invocation, options, export)


def _refuse_contradictions(options: dict[str, Any], **modes: Path | None) -> None:
    names = {"source": "--import", "export": "--export", "dataset": "--export-dataset"}
    chosen = [names[name] for name, place in modes.items() if place is not None]
    chosen += ["--summary"] if options["summary"] else []
    if len(chosen) > 1:
        raise UsageError(f"{chosen[0]} and {chosen[1]} exclude each other", hint="one after the other")
    if modes["export"] and (options["output"] or options["form"] or options["columns"]):
        raise UsageError(
            "--export writes CSV with columns of its own", hint="leave out -o, --format and --columns"
        )
    if options["review"] and not (options["done"] or modes["dataset"]):
        raise UsageError("what waits has no review yet", hint="--review goes with --done")


def _list(invocation: Invocation, options: dict[str, Any], export: Path | None) -> None:
    """List or export what waits or what was said, or sum it up."""
    from daemon.views import review_listing as listing

    queue, is_done = options.pop("queue"), options.pop("done")
    with _asked(invocation, options) as (connection, request):
        if export is not None:
            _export(connection, request, export, None if is_done else queue)
        elif options["summary"]:
            listing.print_figures(connection, request, invocation, _models(invocation).card)
        elif is_done:
            listing.list_done(connection, request, invocation)
        else:
            found = listing.queue_of(connection, request, queue, _DEFAULT_LIMIT)
            listing.list_queue(found, connection, request, invocation)


@contextmanager
def _asked(
    invocation: Invocation, options: dict[str, Any]
) -> Iterator[tuple[sa.Connection | None, ResultRequest]]:
    from datetime import UTC, datetime

    from daemon.views.class_names import with_known_classes
    from daemon.views.reader import reader
    from daemon.views.result_options import Options, understood

    request = understood(Options(**options), datetime.now(UTC))
    with reader(invocation) as connection:
        yield connection, with_known_classes(connection, request, invocation)


def _export(connection: sa.Connection | None, request: ResultRequest, place: Path, queue: str | None) -> None:
    """Write CSV of what waits, or (no queue) of what was said."""
    from daemon.exchange.review_csv import write_queue, write_reviews
    from daemon.output.sink import text_sink
    from daemon.views.reader import streamed
    from daemon.views.review_listing import queue_of
    from storage.reviews.review_rows import review_rows

    with text_sink(place) as stream:
        if queue is not None:
            count = write_queue(queue_of(connection, request, queue, _DEFAULT_LIMIT), request.zone, stream)
        else:
            with streamed(() if connection is None else review_rows(connection, request.query)) as found:
                count = write_reviews(found, request.zone, stream)
    if str(place) != "-":
        shown = printable(str(place))
        then = (
            f"; fill in answer, then: bt-daemon review --import {shlex.quote(shown)}"
            if queue and count
            else ""
        )
        click.echo(f"{_counted(count, 'line')} written to {shown}{then}", err=True)


def _import(invocation: Invocation, place: Path, reviewer: str | None) -> None:
    from contextlib import closing

    from daemon.exchange.review_csv import read_review_lines
    from daemon.exchange.review_import import checked, import_reviews
    from storage.database import open_reader
    from storage.reviews.review_writer import ReviewWriter

    file = read_review_lines(_bytes_of(place), _login_name() if reviewer is None else reviewer)
    database = invocation.settings.db
    with closing(open_reader(database)) as connection:
        found = checked(connection, file.lines, time.time_ns() // 1000)
        if bad := sorted((*file.bad, *found.bad), key=lambda one: one.number):
            raise _refused(bad, place)
        done = import_reviews(connection, found.reviews, ReviewWriter(database))
    click.echo(_imported_words(done, file.unanswered))


def _bytes_of(place: Path) -> bytes:
    from daemon.exchange.review_csv import MOST_BYTES

    if str(place) == "-":
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    try:
        with place.open("rb") as stream:
            return stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {printable(str(place))}: {error.strerror or error}") from error


def _login_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        raise UsageError("the login name is not known", hint="say who answers with --reviewer NAME") from None


def _refused(bad: Sequence[BadLine], place: Path) -> UsageError:
    """Tell of every line that is wrong, and return what to raise."""
    for one in bad[:_SHOWN_LINES]:
        click.echo(str(one), err=True)
    if len(bad) > _SHOWN_LINES:
        click.echo(f"and {len(bad) - _SHOWN_LINES:,} more lines", err=True)
    return UsageError(
        f"nothing was imported: {_counted(len(bad), 'line')} of {printable(str(place))} cannot be taken",
        hint="mend what is named above, or clear its answer, and import the file again",
    )


def _imported_words(done: Imported, unanswered: int) -> str:
    parts = [f"{_counted(done.new, 'review')} added"]
    parts += [f"{done.known:,} known already"] if done.known else []
    parts += [f"{_counted(unanswered, 'line')} without an answer"] if unanswered else []
    if done.replaced:
        parts.append(
            f"{done.replaced:,} imported before and undone or answered otherwise since, which stay so "
            "(a note makes it a new answer)"
        )
    return "; ".join(parts)


def _export_dataset(
    invocation: Invocation, options: dict[str, Any], place: Path, *, is_linked: bool, overwrite: bool
) -> None:
    import os

    from daemon.exchange.export_folder import check_export_folder
    from daemon.exchange.review_dataset import DatasetRequest, is_review_dataset, write_review_dataset
    from daemon.views.step_progress import StepProgress
    from storage.queries.statistics import model_classes
    from storage.reviews.review_rows import review_rows
    from trainer.images.picture import limits_of

    folder = Path(os.path.abspath(place))  # its own name stands in the groups file
    check_export_folder(folder, is_review_dataset, overwrite=overwrite)
    for name in ("queue", "done"):
        options.pop(name)
    with _asked(invocation, options) as (connection, request), StepProgress("writing", "images") as bar:
        found = [] if connection is None else list(review_rows(connection, request.query))
        classes = {} if connection is None else model_classes(connection)
        wanted = DatasetRequest(classes, limits_of(invocation.settings), is_linked, bar.show)
        done = write_review_dataset(found, folder, wanted)
    _tell_dataset(done, folder)


def _tell_dataset(done: DatasetWritten, folder: Path) -> None:
    """Say what a dataset holds and lacks, and what can be done with it next."""
    from daemon.exchange.review_dataset import left_out_words, next_commands

    kinds = [f"{count:,} {printable(name)}" for name, count in done.classes.items()]
    kinds += [f"{done.to_reject:,} of another kind"] if done.to_reject else []
    click.echo(f"dataset written to {printable(str(folder))}: {', '.join(kinds)}", err=True)
    if words := left_out_words(done.left_out):
        click.echo(f"left out: {words}", err=True)
    names = [(why, name) for why in done.named for name in done.left_out.get(why, ())]
    for why, name in names[:_SHOWN_FILES]:
        click.echo(f"  {printable_name(name)}: {why.value}", err=True)
    if len(names) > _SHOWN_FILES:
        click.echo(f"  and {len(names) - _SHOWN_FILES:,} more", err=True)
    for line in next_commands(done, folder):
        click.echo(line)


def _models(invocation: Invocation) -> ModelsAtHand:
    from daemon.heatmaps.model_lookup import ModelsAtHand

    return ModelsAtHand(invocation.settings)


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
