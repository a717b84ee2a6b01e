"""`bt-train list`: the runs in a folder, with their state and best figures."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.commands.options import FOLDER


@click.command("list", short_help="The runs in a folder: state, epochs, best figures.")
@click.argument("folder", metavar="[DIR]", required=False, type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(folder: Path | None, as_json: bool) -> None:
    """List the runs in DIR (default: runs), the newest last.

    A run is finished, interrupted (bt-train --resume -o DIR goes on with it) or running. Loss is the best of
    its epochs on validation images; accuracy and AUC are the finished model's, until then the best epoch's.

    \b
    Example:
      bt-train list
      bt-train list experiments/ --json
    """  # noqa: D301 - click wants the character
    import json

    from trainer.runs.run_list import list_records, list_text
    from trainer.runs.run_record import find_runs
    from trainer.training.run_folder import RUNS

    runs = find_runs(folder or RUNS)
    if as_json:
        click.echo(json.dumps(list_records(runs), indent=1))
    elif runs:
        click.echo(list_text(runs))
    else:
        click.echo("no runs here; bt-train --data DIR makes one", err=True)
