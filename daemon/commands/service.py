"""`bt-daemon service`: the daemon as something that a machine runs by itself."""

from __future__ import annotations

import click

from config.options import Group, program_options
from daemon.commands.service_files import files
from daemon.commands.service_units import install, uninstall


@click.group(cls=Group, short_help="Run it on a server: systemd unit, alert rules, dashboard.")
@program_options
def command() -> None:
    r"""Help to run the daemon on a server.

    \b
    Examples:
      bt-daemon service install /srv/mri/inbox --print
      bt-daemon service files monitoring
    """


for subcommand in (install, uninstall, files):
    command.add_command(subcommand)
