"""`bt-daemon service`: the daemon as something that a machine runs by itself."""

from __future__ import annotations

import click

from config.options import Group, program_options
from daemon.commands.service_files import files


@click.group(cls=Group, short_help="Files for those who run it on a server.")
@program_options
def command() -> None:
    r"""Help to run the daemon on a server.

    \b
    Examples:
      bt-daemon service files
    """


command.add_command(files)
