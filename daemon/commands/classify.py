"""`bt-daemon classify`: judge single files on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.errors import UsageError
from config.folders import made_folder
from config.options import Invocation, Place, pass_invocation, program_options, setting_options
from config.text import printable
from daemon.output.words import STATUS_COLOURS

if TYPE_CHECKING:
    from daemon.output.columns import Column
    from daemon.service.classify import Classified

FORMATS = ("table", "json", "jsonl", "csv", "tsv")


@click.command()
@click.argument("places", metavar="FILE|DIR...", nargs=-1, required=True, type=Place())
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print."
)
@click.option("--save", "keep", is_flag=True, help="Store the results too, also beside a daemon.")
@click.option(
    "--heatmap",
    type=Place(),
    metavar="DIR",
    help="Draw where the network looked into DIR.",
)
@setting_options(
    "weights", "spec",
    "device", "precision", "lanes", "max_bytes", "max_pixels", "max_slices", "decode_timeout",
    "decode_memory", "any_modality", "tags", "recursive", "include", "exclude", "cache",
)  # fmt: skip
@program_options
@pass_invocation
def command(
    invocation: Invocation, places: tuple[Path, ...], form: str, keep: bool, heatmap: Path | None
) -> int:
    r"""Judge files and print the answers; nothing is stored unless --save is given.

    Of a DIR it takes the files that `watch DIR` would take, those of its subfolders too. Exit code 1
    when a file could not be judged.

    \b
    Examples:
      bt-daemon classify slice.png
      bt-daemon classify scans/*.dcm --format json
      bt-daemon classify ./scans --include '*.dcm,*.nii.gz' --save
      bt-daemon classify slice.png --heatmap maps
    """
    from daemon.service.classify import classify, quiet_logger, save
    from daemon.service.named_files import named_files
    from trainer.model.foreign_network import WITHOUT_MAPS

    settings, logger = invocation.settings, quiet_logger()
    maps = None if heatmap is None else made_folder(heatmap, "--heatmap")
    files = named_files(places, settings, logger)
    if not files:
        click.echo("there is no file to judge (hidden and half-finished files are left out)", err=True)
    found, prepared, spec = classify(files, settings, logger)
    if maps is not None and not spec.has_maps:
        raise UsageError(f"no heatmaps can be drawn: {WITHOUT_MAPS}", hint="leave --heatmap out")
    _print(found, form, invocation)
    if keep:
        click.echo(_stored(save(found, settings, prepared, spec), len(found)), err=True)
    if maps is not None:
        from daemon.heatmaps.on_demand import write_heatmaps
        from trainer.images.picture import limits_of

        good = [one.path for one in found if one.judged.status != "error"]
        written = write_heatmaps(good, prepared, limits_of(settings), maps)
        click.echo(f"{len(written)} heatmaps written to {printable(str(heatmap))}", err=True)
    return int(any(one.judged.status == "error" for one in found))


def _stored(new: int, files: int) -> str:
    rest = f"; {files - new} had none to add (known already, gone, or named twice)" if new < files else ""
    return f"{new} new row{'' if new == 1 else 's'} stored{rest}"


def _print(found: list[Classified], form: str, invocation: Invocation) -> None:
    from config.text import DISCLAIMER
    from config.when import local_zone
    from daemon.output.sink import text_sink
    from daemon.output.table import print_table
    from daemon.output.terminal_table import TableStyle
    from daemon.output.words import score_of
    from daemon.views.listing import text_writer

    columns = _columns()
    if form != "table":
        with text_sink(None) as stream:
            text_writer(form)(found, columns, local_zone(), stream)
        return
    look = TableStyle(
        note=_reason,
        style=_style,
        brief=lambda column, text: text[-8:] if column == "model" else text,
        spare=("model",),
    )
    by_name = {column.name: column for column in columns}
    page = [by_name[name] for name in ("file", "class", "score", "status", "model")]
    plain = [*page[:4], by_name["reason"], page[4]]
    print_table(found, plain, local_zone(), invocation, look=look, page_columns=page)
    if invocation.verbosity >= 0 and (words := score_of(found[0].limits)):
        click.echo(f"score: {words}", err=True)
    click.echo(DISCLAIMER, err=True)


def _columns() -> list[Column]:
    from daemon.output.columns import Column, Kind

    return [
        Column("file", Kind.NAME, lambda one: one.path),
        Column("class", Kind.TEXT, lambda one: one.judged.label),
        Column("confidence", Kind.CONFIDENCE, lambda one: one.judged.confidence),
        Column("status", Kind.TEXT, lambda one: one.judged.status.value),
        Column("reason", Kind.TEXT, lambda one: one.judged.reason),
        Column("model", Kind.TEXT, lambda one: one.model),
        Column("slice_index", Kind.INTEGER, lambda one: one.judged.slice_index),
        Column("slice_count", Kind.INTEGER, lambda one: one.judged.slice_count),
        Column("tags", Kind.MAPPING, lambda one: one.judged.tags),
        Column("score", Kind.CONFIDENCE, lambda one: one.judged.score),
        Column("threshold", Kind.CONFIDENCE, lambda one: one.limits.threshold),
        Column("positive", Kind.TEXT, lambda one: one.limits.positive),
        Column("uncertain_low", Kind.CONFIDENCE, lambda one: one.limits.uncertain_low),
        Column("uncertain_high", Kind.CONFIDENCE, lambda one: one.limits.uncertain_high),
    ]


def _reason(one: Any) -> str | None:
    reason: str | None = one.judged.reason
    return reason


def _style(one: Any) -> str:
    return STATUS_COLOURS[one.judged.status.value]
