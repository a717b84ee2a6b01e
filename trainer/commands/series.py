"""`bt-train series`: which rule makes one answer of a series' slices best."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.commands.options import FOLDER


@click.command("series", short_help="Which rule makes one answer of a series' slices best.")
@click.option(
    "--predictions",
    required=True,
    type=FOLDER,
    metavar="FILE",
    help="The predictions.csv of bt-train --leave-source-out: of networks that had not seen these patients.",
)
@click.option(
    "--groups", required=True, type=FOLDER, metavar="FILE", help="CSV with file,patient, as for training."
)
@click.option("--positive", default="yes", show_default=True, metavar="CLASS", help="The class looked for.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(predictions: Path, groups: Path, positive: str, as_json: bool) -> None:
    """Compare rules that make one score of a series' slices, on whole series and on blocks of neighbours.

    A series are the images of one patient whose names differ in their last number only. Blocks are eight
    neighbouring slices of a patient with a tumour: at least three show it, or none does. A rule to rely on
    does well on both.

    \b
    Example:
      bt-train series --predictions runs/first/left-out/predictions.csv --groups groups.csv
    """  # noqa: D301 - click wants the character
    import json

    from trainer.evaluation.series_rules import compare_rules, rules_text

    report = compare_rules(predictions, groups, positive)
    click.echo(json.dumps(report, indent=1) if as_json else rules_text(report))
