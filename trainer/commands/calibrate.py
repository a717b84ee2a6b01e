"""`bt-train calibrate`: fit threshold and confidence to images of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trainer.commands.options import (
    FOLDER,
    GROUPS_OPTION,
    collection_of,
    collection_options,
    command_line,
    echo_caveats,
)


@click.command("calibrate", short_help="Fit threshold and confidence to images of your own.")
@click.option("--weights", type=FOLDER, metavar="FILE", help="Weights file (default: the shipped model).")
@collection_options
@GROUPS_OPTION
@click.option("-o", "--output", type=FOLDER, required=True, metavar="FILE", help="The new weights file.")
@click.option(
    "--sensitivity",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0.5, 0.999),
    help="What the threshold must reach on these images (lower bound).",
)
@click.option("--json", "as_json", is_flag=True, help="For programs, with intervals.")
def command(weights: Path | None, output: Path, sensitivity: float, as_json: bool, **images: Any) -> None:
    """Write a copy of a model whose threshold and confidence fit labelled images; the network stays.

    \b
    Example:
      bt-train calibrate --data our-scanner/ -o ours.safetensors
    """  # noqa: D301 - click wants the character
    import json

    from trainer.evaluation.recalibrate import Recalibration, recalibrate, recalibration_text
    from trainer.model.identity import default_weights
    from trainer.training.progress import Console

    with Console(0) as console:
        report = recalibrate(
            Recalibration(weights or default_weights(), output, sensitivity, command_line()),
            collection_of(images),
            console.decoding,
        )
    click.echo(json.dumps(report, indent=1) if as_json else recalibration_text(report, output))
    echo_caveats(report)
