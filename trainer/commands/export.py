"""`bt-train export`: a weights file as ONNX or for OpenVINO."""

from __future__ import annotations

from pathlib import Path

import click

from config.errors import UsageError
from config.text import printable
from trainer.commands.options import FOLDER


@click.command("export", short_help="Write a weights file as ONNX or for OpenVINO.")
@click.argument("weights", type=FOLDER, metavar="MODEL.safetensors")
@click.option("--onnx", type=FOLDER, metavar="FILE", help="Write FILE.onnx (opset 18, any batch size).")
@click.option("--openvino", type=FOLDER, metavar="FILE", help="Write FILE.xml and FILE.bin (float32).")
@click.option(
    "--data", type=FOLDER, metavar="DIR", help="Compare on the images below DIR too, 1,000 at most."
)
def command(weights: Path, onnx: Path | None, openvino: Path | None, data: Path | None) -> None:
    """Write the network of a weights file for other programs, with its whole spec in the metadata.

    It takes pictures (batch, 1 or 3, side, side) of 8 bits, preprocessed as the spec says, and gives
    logits, features and maps. Before a file appears it is run (ONNX Runtime, OpenVINO) on 64 drawn pictures
    and the images of DIR: answers that differ from the network's by more than 0.0001 are an error.

    \b
    Example:
      bt-train export runs/first/model.safetensors --onnx first.onnx --data data/
      bt-train export runs/first/model.safetensors --openvino first.xml
    """  # noqa: D301 - click wants the character
    if onnx is None and openvino is None:
        raise UsageError("nothing to write", hint="give --onnx FILE.onnx, --openvino FILE.xml or both")
    from trainer.export.export import export, images_below
    from trainer.model.weights import read_weights

    images = [] if data is None else images_below(data)
    read = read_weights(weights)
    for path, agreement in export(read, onnx, openvino, images):
        told = ", ".join(f"{name} {value:.1e}" for name, value in agreement.differences.items())
        click.echo(
            f"{printable(str(path))} is written; largest differences from the network on "
            f"{agreement.pictures:,} pictures: {told}"
        )
