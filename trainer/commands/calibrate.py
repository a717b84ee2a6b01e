"""`bt-train calibrate`: fit threshold and confidence to images of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from config.paths import cache_folder
from trainer.commands.options import FOLDER, command_line, echo_caveats


@click.command("calibrate", short_help="Fit threshold and confidence to images of your own.")
@click.option("--weights", type=FOLDER, metavar="FILE", help="Weights file (default: the shipped model).")
@click.option(
    "--data", multiple=True, required=True, type=FOLDER, metavar="DIR", help="Folder of class folders."
)
@click.option("--merge", multiple=True, metavar="NEW=A,B", help="Give folders A and B the class NEW.")
@click.option("-o", "--output", type=FOLDER, required=True, metavar="FILE", help="The new weights file.")
@click.option(
    "--sensitivity",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0.5, 0.999),
    help="What the threshold must reach on these images (lower bound).",
)
@click.option("--json", "as_json", is_flag=True, help="For programs, with intervals.")
def command(
    weights: Path | None,
    data: tuple[Path, ...],
    merge: tuple[str, ...],
    output: Path,
    sensitivity: float,
    as_json: bool,
) -> None:
    """Write a copy of a model whose threshold and confidence fit labelled images; the network stays.

    \b
    Example:
      bt-train calibrate --data our-scanner/ -o ours.safetensors
    """  # noqa: D301 - click wants the character
    import json

    from trainer.data.dataset import Collection, parse_merge
    from trainer.evaluation.recalibrate import Recalibration, recalibrate, recalibration_text
    from trainer.model.identity import default_weights
    from trainer.training.progress import Console

    with Console(0) as console:
        report = recalibrate(
            Recalibration(weights or default_weights(), output, sensitivity, command_line()),
            Collection(data, parse_merge(merge), cache_folder()),
            console.decoding,
        )
    click.echo(json.dumps(report, indent=1) if as_json else recalibration_text(report, output))
    echo_caveats(report)
