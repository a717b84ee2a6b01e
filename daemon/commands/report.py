"""`bt-daemon report`: what came in as one HTML file, as a BIDS dataset, as DICOM structured reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.errors import UsageError
from config.options import Invocation, Place, pass_invocation, program_options
from config.text import printable
from daemon.commands.filter_options import filter_options

if TYPE_CHECKING:
    import sqlalchemy as sa

    from config.settings import Settings
    from daemon.heatmaps.model_lookup import ModelsAtHand
    from daemon.views.result_options import ResultRequest
    from storage.query import Query


@click.command(short_help="What came in as HTML, BIDS dataset or DICOM reports.")
@click.option("-o", "output", type=Place(), metavar="FILE", help="Write the HTML file.")
@click.option("--bids", type=Place(), metavar="DIR", help="Write the series as a BIDS derivatives dataset.")
@click.option(
    "--dicom-sr",
    type=Place(),
    metavar="DIR",
    help="Write a DICOM Structured Report of each DICOM series, which names the patient as its files do.",
)
@click.option("--overwrite", is_flag=True, help="Write over an earlier export in DIR.")
@filter_options(scores=False)
@click.option(
    "--pictures", type=click.IntRange(0, 2000), default=300, show_default=True, metavar="N",
    help="Show at most N images; 0: none.",
)  # fmt: skip
@click.option("--utc", is_flag=True, help="Times in UTC instead of local time.")
@partial(program_options, quiet_names=("--quiet",))
@pass_invocation
def command(
    invocation: Invocation,
    output: Path | None,
    bids: Path | None,
    dicom_sr: Path | None,
    overwrite: bool,
    **more: Any,
) -> None:
    r"""Write a report: counts, charts, pictures with heatmaps, errors, the models.

    The HTML file holds everything it shows and opens offline. Pictures are drawn from the files as they
    are now; one that has changed since, or is gone, is named without.

    --bids and --dicom-sr hand the answers about series on to other programs, with the same filters. A BIDS
    dataset has the pseudonyms that the database has, or the names in the files' names. A structured report
    is for the archive that the images came from: it carries the patient's name and identifiers and those of
    the study, read from the DICOM files, which have to be where they were judged. It says that it is for
    research only and not verified by a person.

    \b
    Examples:
      bt-daemon report -o report.html
      bt-daemon report --since today --class yes -o findings.html
      bt-daemon report --bids derivatives/bt-daemon
      bt-daemon report --since today --dicom-sr reports
    """
    pictures = more.pop("pictures")
    _check_places(output, bids, dicom_sr, overwrite=overwrite)
    with _job(invocation, more) as job:
        if output is not None:
            job.write_page(output, pictures)
        if bids is not None:
            job.write_bids(bids)
        if dicom_sr is not None:
            job.write_structured_reports(dicom_sr)


@contextmanager
def _job(invocation: Invocation, filters: dict[str, Any]) -> Iterator[_Job]:
    from contextlib import closing
    from datetime import UTC, datetime

    from daemon.heatmaps.model_lookup import ModelsAtHand
    from daemon.views.class_names import with_known_classes
    from daemon.views.result_options import Options, understood
    from storage.database import open_reader

    request = understood(Options(**filters), datetime.now(UTC))
    with closing(open_reader(invocation.settings.db)) as connection:
        request = with_known_classes(connection, request, invocation)
        yield _Job(invocation, connection, request, ModelsAtHand(invocation.settings))


def _check_places(output: Path | None, bids: Path | None, dicom_sr: Path | None, *, overwrite: bool) -> None:
    """Raise UsageError or BtError, before any work, if something could not be written."""
    from daemon.exchange.bids_dataset import is_bids_export
    from daemon.exchange.export_folder import check_export_folder
    from daemon.exchange.report_objects import is_report_export
    from daemon.output.sink import check_place

    if output is None and bids is None and dicom_sr is None:
        raise UsageError("where to is not said", hint="-o report.html, --bids DIR or --dicom-sr DIR")
    if output is not None:
        _check_suffix(output)
        check_place(output)
    if bids is not None:
        check_export_folder(bids, is_bids_export, overwrite=overwrite)
    if dicom_sr is not None:
        import highdicom  # noqa: F401 - whoever lacks it is told before anything is written

        check_export_folder(dicom_sr, is_report_export, overwrite=overwrite)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is written, each in its own form."""

    invocation: Invocation
    connection: sa.Connection
    request: ResultRequest
    models: ModelsAtHand

    def write_page(self, output: Path, pictures: int) -> None:
        from datetime import UTC, datetime

        from daemon.heatmaps.renderers import drawing
        from daemon.output.sink import text_sink
        from daemon.views.step_progress import StepProgress
        from daemon.web.pages.render import ModelBook
        from daemon.web.report_file import Framing, write_report

        query = self.request.query
        framing = Framing(ModelBook(self.models), self.request.zone, datetime.now(UTC), _filters(query))
        with (
            drawing(self.models, self.invocation.settings) as artist,
            StepProgress("drawing", "images") as bar,
        ):
            page = write_report(
                self.connection, query, framing, artist if pictures else None, pictures, bar.show
            )
        with text_sink(output) as stream:
            stream.write(page)
        click.echo(f"report written to {printable(str(output))} ({len(page) / 1e6:.1f} MB)", err=True)

    def write_bids(self, folder: Path) -> None:
        from daemon.exchange.bids_dataset import BidsRequest, write_bids

        settings = self.invocation.settings
        request = BidsRequest(self.request.query, _now_us(), _quiet_us(settings), self.models.spec)
        done = write_bids(self.connection, request, folder)
        click.echo(
            f"BIDS dataset written to {printable(str(folder))}: {done.series} series of "
            f"{done.participants} participants by {done.models} model{'' if done.models == 1 else 's'}",
            err=True,
        )

    def write_structured_reports(self, folder: Path) -> None:
        from daemon.exchange.report_objects import ReportRequest, left_out_words, write_reports
        from daemon.views.step_progress import StepProgress
        from trainer.images.picture import limits_of

        settings = self.invocation.settings
        request = ReportRequest(
            self.request.query, _now_us(), _quiet_us(settings), self.models.spec, limits_of(settings)
        )
        with StepProgress("reporting", "series") as bar:
            done = write_reports(self.connection, request, folder, bar.show)
        left_out = left_out_words(done.left_out)
        click.echo(
            f"{done.reports} structured report{'' if done.reports == 1 else 's'} written to "
            f"{printable(str(folder))}" + (f"; left out: {left_out}" if left_out else ""),
            err=True,
        )


def _quiet_us(settings: Settings) -> int:
    return int(settings.series_quiet_seconds * 1_000_000)


def _now_us() -> int:
    from datetime import UTC, datetime

    from config.when import microseconds

    return microseconds(datetime.now(UTC))


def _check_suffix(output: Path) -> None:
    if output.suffix.lower() not in ("", ".html", ".htm"):
        raise UsageError(
            f"a report is HTML, {printable(output.name)} is named as something else",
            hint="name it report.html; a browser prints it as PDF",
        )


def _filters(query: Query) -> str:
    parts = [f"class {label}" for label in query.labels] + [f"status {one.value}" for one in query.statuses]
    if query.min_confidence is not None:
        parts.append(f"confidence from {query.min_confidence:g}")
    if query.model is not None:
        parts.append(f"judged by {query.model}")
    if query.text:
        parts.append(f"with {query.text!r} in the name or reason")
    return ", ".join(parts)
