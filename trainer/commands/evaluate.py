"""`bt-train eval`: judge labelled images with a weights file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trainer.commands.options import FOLDER, GROUPS_OPTION, collection_of, collection_options, echo_caveats


@click.command("eval", short_help="How a weights file does on labelled images.")
@click.option("--weights", type=FOLDER, metavar="FILE", help="Weights file (default: the shipped model).")
@collection_options
@GROUPS_OPTION
@click.option("--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu or cuda[:N].")
@click.option("--json", "as_json", is_flag=True, help="For programs, with intervals.")
def command(weights: Path | None, device: str, as_json: bool, **images: Any) -> None:
    """Judge labelled images with a weights file and print how good it is, by source.

    Series, where a groups file or DICOM's tags tell them, are judged as bt-daemon judges them: one that has
    a slice with a tumour has a tumour. Intervals are 95 %, by bootstrap over patients.

    \b
    Example:
      bt-train eval --data data/
      bt-train eval --data data/ --groups patients.csv
    """  # noqa: D301 - click wants the character
    import json

    from trainer.evaluation.evaluate import evaluate as judge_all
    from trainer.evaluation.evaluate import evaluation_text
    from trainer.model.identity import default_weights
    from trainer.networks.inference import pick_device
    from trainer.training.progress import Console

    with Console(0) as console:
        report = judge_all(
            weights or default_weights(),
            collection_of(images),
            pick_device(device),
            console.decoding,
        )
    click.echo(json.dumps(report, indent=1) if as_json else evaluation_text(report))
    echo_caveats(report)
