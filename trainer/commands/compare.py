"""`bt-train compare`: runs side by side, with paired intervals, and their curves in one picture."""

from __future__ import annotations

import os
from pathlib import Path

import click

from trainer.commands.options import FOLDER


@click.command("compare", short_help="Runs side by side, with paired intervals and their curves.")
@click.argument("runs", nargs=-1, required=True, type=FOLDER, metavar="RUN...")
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    metavar="FILE",
    help="Where the picture of the curves goes (default: compare.png in the folder that the runs share).",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(runs: tuple[Path, ...], output: Path | None, as_json: bool) -> None:
    """Compare runs: options that differ, figures, and how far each differs from the first.

    Where two runs judged the same images, the interval of their difference (95 %) is by paired bootstrap
    over groups, on the predictions that the runs stored; else it is said what they have in common. Each run
    decides at its own threshold.

    \b
    Example:
      bt-train compare runs/first runs/second
      bt-train compare runs/* -o curves.png
    """  # noqa: D301 - click wants the character
    import json

    from config.text import printable
    from trainer.runs.run_comparison import compare_runs, comparison_text
    from trainer.runs.run_curves import draw_run_curves
    from trainer.runs.run_record import read_run

    records = [read_run(folder) for folder in dict.fromkeys(runs)]
    report = compare_runs(records)
    shared = Path(os.path.commonpath([folder.absolute().parent for folder in runs]))
    path = output or shared / "compare.png"
    draw_run_curves(records, path)
    click.echo(json.dumps(report, indent=1) if as_json else comparison_text(report))
    click.echo(f"The curves are in {printable(str(path))}", err=True)
