"""The `bt-train` command: train by default, and what goes with training as subcommands."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from config.program import run
from config.text import DISCLAIMER
from trainer.commands.train import train, train_options

# Name -> module of trainer.commands, imported only when the command is named or listed; what is slow it
# imports only when it runs.
COMMANDS = {
    "audit": "audit",
    "calibrate": "calibrate",
    "compare": "compare",
    "eval": "evaluate",
    "export": "export",
    "list": "list",
    "models": "models",
    "series": "series",
    "upgrade": "upgrade",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"trainer.commands.{COMMANDS[cmd_name]}").command
        return command


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            installed = version("bt-daemon")  # the distribution that holds both programs
        except PackageNotFoundError:
            installed = "(not installed)"
        click.echo(f"bt-train {installed}")
        context.exit()


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND]",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=DISCLAIMER,
)
@train_options
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> int:
    """Train a network on folders of images, one folder per class.

    \b
    Examples:
      bt-train --data data/
      bt-train --data a/ --data b/ --merge yes=glioma,pituitary -o runs/both
      bt-train --data data/ --name first
      bt-train --resume -o runs/first
      bt-train --config runs/first/run.toml --lr 0.001 --name slower
    """  # noqa: D301 - click wants the character
    if context.invoked_subcommand is not None:
        return 0
    return train(context, options)


def main(arguments: list[str] | None = None) -> Any:
    """Run `bt-train` and return its exit code."""
    code = run(cli, "bt-train", arguments)
    if arguments is None:
        sys.exit(code)
    return code


if __name__ == "__main__":
    main()
