"""`bt-train audit`: what is wrong with a collection before anything is trained on it."""

from __future__ import annotations

from pathlib import Path

import click

from config.paths import cache_folder
from trainer.commands.options import FOLDER


@click.command("audit", short_help="Twins, label conflicts, unreadable files, balance.")
@click.option(
    "--data", multiple=True, required=True, type=FOLDER, metavar="DIR", help="Folder of class folders."
)
@click.option("--merge", multiple=True, metavar="NEW=A,B", help="Give folders A and B the class NEW.")
@click.option("--json", "as_json", is_flag=True, help="For programs, complete.")
def command(data: tuple[Path, ...], merge: tuple[str, ...], as_json: bool) -> None:
    """Show what is wrong with a collection before anything is trained on it.

    \b
    Example:
      bt-train audit --data data/
    """  # noqa: D301 - click wants the character
    import json

    from trainer.data.audit import audit as examine
    from trainer.data.audit import audit_text
    from trainer.data.dataset import Collection, parse_merge
    from trainer.training.progress import Console

    with Console(0) as console:
        report = examine(Collection(data, parse_merge(merge), cache_folder()), console.decoding)
    click.echo(json.dumps(report, indent=1) if as_json else audit_text(report))
