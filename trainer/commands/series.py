"""`bt-train series`: which rule makes one answer of a series' slices best, and a model's decision."""

from __future__ import annotations

from pathlib import Path

import click

from config.errors import UsageError
from config.text import printable
from trainer.commands.options import FOLDER, command_line


@click.command("series", short_help="Which rule makes one answer of a series' slices best.")
@click.option(
    "--predictions",
    required=True,
    type=FOLDER,
    metavar="FILE",
    help="The predictions.csv of bt-train --leave-source-out: of networks that had not seen these patients.",
)
@click.option(
    "--groups",
    type=FOLDER,
    metavar="FILE",
    help="CSV with file,patient (perhaps series,position), as for training (default: the predictions' own).",
)
@click.option("--positive", default="yes", show_default=True, metavar="CLASS", help="The class looked for.")
@click.option(
    "--weights", type=FOLDER, metavar="FILE", help="Model to give the decision to (default: the shipped one)."
)
@click.option("-o", "--output", type=FOLDER, metavar="FILE", help="The new weights file with the decision.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(
    predictions: Path,
    groups: Path | None,
    positive: str,
    weights: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Compare rules that make one score of a series' slices, on whole series and on blocks of neighbours.

    A series are the images of one patient whose names differ in their last number only, or that a groups file
    or DICOM's tags call one. Blocks are eight neighbouring slices of a patient with a tumour: at least three
    show it, or none does. A rule to rely on does well on both.

    With -o a copy of a model is written that judges series by the decision fitted on all of them; its network
    stays. Its card and figures go beside it, if they stand beside the model.

    \b
    Example:
      bt-train series --predictions runs/first/left-out/predictions.csv --groups groups.csv
      bt-train series --predictions runs/first/left-out/predictions.csv -o with-series/model.safetensors
    """  # noqa: D301 - click wants the character
    import json

    from trainer.evaluation.series_rules import compare_rules, rules_text
    from trainer.evaluation.slices import read_predictions

    if output is None and weights is not None:
        raise UsageError("--weights goes with -o FILE", hint="say where the model is to be written")
    if output is not None:
        positive = _positive_of(_weights(weights), output)
    report = compare_rules(read_predictions(predictions, groups, positive).series())
    click.echo(json.dumps(report, indent=1) if as_json else rules_text(report))
    if output is not None:
        _write(_weights(weights), output, report)


def _weights(given: Path | None) -> Path:
    from trainer.model.identity import default_weights

    return given or default_weights()


def _positive_of(weights: Path, output: Path) -> str:
    """Return the class that a model looks for, after a look at whether a copy can be written."""
    from trainer.model.weights import read_spec
    from trainer.training.add_series import check_output

    check_output(weights, output)
    positive = read_spec(weights).decision.positive
    if positive is None:
        raise UsageError(
            f"{printable(str(weights))} looks for no class", hint="its series are judged without a threshold"
        )
    return positive


def _write(weights: Path, output: Path, report: dict[str, object]) -> None:
    from trainer.model.weights import read_weights
    from trainer.training.add_series import add_series

    digest = add_series(read_weights(weights), output, report, command_line())
    click.echo(f"{printable(str(output))} is written (sha256 {digest[:8]}).", err=True)
