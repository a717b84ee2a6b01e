"""The `bt-daemon` command: its subcommands, the options of the whole program, and how it ends."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from config.options import Group, program_options
from config.program import run
from config.text import DISCLAIMER

# In the order of `--help`: the daily ones first. A command's module is imported only when it is
# named or listed, and imports what is slow only when it runs.
COMMANDS = (
    "watch",
    "worker",
    "results",
    "show",
    "review",
    "report",
    "web",
    "listen",
    "classify",
    "status",
    "errors",
    "retry",
    "doctor",
    "db",
    "config",
    "demo",
    "service",
)


class _Commands(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"daemon.commands.{cmd_name}").command
        return command


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from daemon.version import version_text

        click.echo(version_text())
        context.exit()


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=DISCLAIMER,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show version, engine and model, and exit.",
)
@program_options
def cli() -> None:
    r"""Watch folders for brain-MRI images, judge each one, keep the results in SQLite.

    \b
    Examples:
      bt-daemon watch ./inbox
      bt-daemon results --since today
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run `bt-daemon` and return its exit code."""
    code = run(cli, "bt-daemon", arguments)
    if arguments is None:
        sys.exit(code)
    return code


if __name__ == "__main__":
    main()
