"""`bt-train audit`: what is wrong with a collection before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trainer.commands.options import FOLDER, collection_of, collection_options


@click.command("audit", short_help="Twins, label conflicts, strangers, unreadable files, balance.")
@collection_options
@click.option(
    "--sheets",
    type=FOLDER,
    metavar="DIR",
    help="Draw contact sheets there: images unlike their class, twins with other labels, mirrored twins.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs, complete.")
def command(as_json: bool, sheets: Path | None, **images: Any) -> None:
    """Show what is wrong with a collection before anything is trained on it.

    \b
    Example:
      bt-train audit --data data/
    """  # noqa: D301 - click wants the character
    import json

    from trainer.data.audit import audit as examine
    from trainer.data.audit import audit_text
    from trainer.training.progress import Console

    with Console(0) as console:
        report = examine(collection_of(images), console.decoding, sheets)
    click.echo(json.dumps(report, indent=1) if as_json else audit_text(report))
