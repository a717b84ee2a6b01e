"""`bt-train upgrade`: bring a weights file of an earlier version into today's format."""

from __future__ import annotations

from pathlib import Path

import click

from config.errors import UsageError
from config.text import printable
from trainer.commands.options import FOLDER, command_line


@click.command("upgrade", short_help="Bring an older weights file into today's format.")
@click.argument("weights", type=FOLDER, metavar="FILE")
@click.option("-o", "--output", type=FOLDER, required=True, metavar="FILE", help="The new weights file.")
def command(weights: Path, output: Path) -> None:
    """Write a copy of a weights file with the reference answers that files of today hold.

    With them a machine shows that it computes what the trained network computes, without torch. Network,
    threshold and everything else stay as they are; the new file has another sha256.

    \b
    Example:
      bt-train upgrade ours.safetensors -o ours-2.safetensors
    """  # noqa: D301 - click wants the character
    from dataclasses import replace

    from trainer.model.identity import check_new_file
    from trainer.model.reference import stored_reference
    from trainer.model.spec import SPEC_FORMAT
    from trainer.model.weights import read_weights, write_weights
    from trainer.networks.inference import reference_of
    from trainer.networks.loading import load

    check_new_file(output)
    before = read_weights(weights)
    spec = before.spec
    if stored_reference(before.tensors, len(spec.classes)) is not None:
        raise UsageError(f"{printable(str(weights))} holds reference answers already", hint="use it as it is")
    reference = reference_of(load(before), spec.preprocessing)
    command = f"{spec.provenance.command}\n{command_line()}".strip()
    made = replace(spec, format=SPEC_FORMAT, provenance=replace(spec.provenance, command=command))
    digest = write_weights(output, made, before.tensors | reference.tensors(), before.seen)
    click.echo(f"{printable(str(output))} is written (sha256 {digest[:8]}).")
