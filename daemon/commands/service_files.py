"""`bt-daemon service files`: alert rules, dashboard and compose file, listed, printed or written."""

from __future__ import annotations

from pathlib import Path

import click

from config.errors import UsageError
from config.options import program_options
from config.text import printable


@click.command()
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(path_type=Path, file_okay=False))
@click.option("--print", "name", metavar="FILE", help="Print one of them instead.")
@program_options
def files(folder: Path | None, name: str | None) -> None:
    r"""Write the files for operators into a folder: alert rules, a Grafana dashboard, a compose file.

    Without a folder they are listed. A file that is there already and was changed is never overwritten.

    \b
    Examples:
      bt-daemon service files
      bt-daemon service files monitoring
      bt-daemon service files --print alerts.yml | promtool check rules /dev/stdin
    """
    from daemon.operations.shipped import SHIPPED, shipped_text, write_shipped

    if name is not None and folder is not None:
        raise UsageError("a folder and --print are two things", hint="give one of them")
    if name is not None:
        click.echo(shipped_text(name), nl=False)
    elif folder is not None:
        new = write_shipped(folder)
        click.echo(f"{len(new)} written to {printable(str(folder))}, {len(SHIPPED) - len(new)} were there")
    else:
        for shipped, words in SHIPPED.items():
            click.echo(f"{shipped:<16} {words}")
        click.echo("bt-daemon service files DIR writes them there.", err=True)
