"""`bt-daemon report`: one HTML file about what came in, to look at, keep, print or hand on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.errors import UsageError
from config.options import Invocation, Place, Words, commas, pass_invocation, program_options
from config.text import printable
from storage.records import Status

if TYPE_CHECKING:
    from storage.query import Query

STATUSES = (*(status.value for status in Status), "all")


@click.command(short_help="One HTML file about what came in, with pictures.")
@click.option("-o", "output", type=Place(), required=True, metavar="FILE", help="Where to.")
@click.option("--since", metavar="WHEN", help="Not before: today, this week, 7d, 2026-11, 2026-11-01 14:30.")
@click.option("--until", metavar="WHEN", help="Before that time.")
@click.option("--class", "labels", metavar="NAME,...", multiple=True, help="Only these classes.")
@click.option("--min-confidence", type=click.FloatRange(0, 1), metavar="X", help="At least so sure, 0 to 1.")
@click.option(
    "--status", "statuses", type=Words(STATUSES), multiple=True, callback=commas,
    metavar="[ok|uncertain|rejected|error|all],...", help="Only these statuses.",
)  # fmt: skip
@click.option("--model", metavar="NAME|HASH", help="Only judged by this model.")
@click.option("-q", "text", metavar="TEXT", default="", help="TEXT is part of the path or of the reason.")
@click.option(
    "--pictures", type=click.IntRange(0, 2000), default=300, show_default=True, metavar="N",
    help="Show at most N images; 0: none.",
)  # fmt: skip
@click.option("--utc", is_flag=True, help="Times in UTC instead of local time.")
@partial(program_options, quiet_names=("--quiet",))
@pass_invocation
def command(invocation: Invocation, output: Path, pictures: int, **filters: Any) -> None:
    r"""Write a report: counts, charts, pictures with heatmaps, errors, the models.

    The file holds everything it shows and opens offline. Pictures are drawn from the files as they
    are now; one that has changed since, or is gone, is named without.

    \b
    Examples:
      bt-daemon report -o report.html
      bt-daemon report --since today --class yes -o findings.html
    """
    from contextlib import closing
    from datetime import UTC, datetime

    from daemon.heatmaps.model_lookup import ModelsAtHand
    from daemon.heatmaps.renderers import drawing
    from daemon.output.sink import check_place, text_sink
    from daemon.views.class_names import with_known_classes
    from daemon.views.result_options import Options, understood
    from daemon.web.pages.render import ModelBook
    from daemon.web.report_file import Framing, write_report
    from storage.database import open_reader

    _check_suffix(output)
    check_place(output)
    request = understood(Options(**filters), datetime.now(UTC))
    settings = invocation.settings
    with closing(open_reader(settings.db)) as connection:
        request = with_known_classes(connection, request, invocation)
        models = ModelsAtHand(settings)
        framing = Framing(ModelBook(models), request.zone, datetime.now(UTC), _filters(request.query))
        with drawing(models, settings) as artist, _Progress() as progress:
            page = write_report(
                connection, request.query, framing, artist if pictures else None, pictures, progress.show
            )
    with text_sink(output) as stream:
        stream.write(page)
    click.echo(f"report written to {printable(str(output))} ({len(page) / 1e6:.1f} MB)", err=True)


def _check_suffix(output: Path) -> None:
    if output.suffix.lower() not in ("", ".html", ".htm"):
        raise UsageError(
            f"a report is HTML, {printable(output.name)} is named as something else",
            hint="name it report.html; a browser prints it as PDF",
        )


class _Progress:
    """A bar on stderr while pictures are drawn, at a terminal only."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), TextColumn("images"))
        self._bar = Progress(
            *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._bar.add_task("")

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """Say how many are done."""
        self._bar.update(self._task, completed=done, total=total)


def _filters(query: Query) -> str:
    parts = [f"class {label}" for label in query.labels] + [f"status {one.value}" for one in query.statuses]
    if query.min_confidence is not None:
        parts.append(f"confidence from {query.min_confidence:g}")
    if query.model is not None:
        parts.append(f"judged by {query.model}")
    if query.text:
        parts.append(f"with {query.text!r} in the name or reason")
    return ", ".join(parts)
