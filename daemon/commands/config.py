"""`bt-daemon config`: which value each setting has, and where it came from."""

from __future__ import annotations

import re
from dataclasses import Field
from typing import Any

import click

from config import parse
from config.database_url import without_password
from config.errors import UsageError
from config.options import Group, Invocation, pass_invocation, program_options
from config.paths import user_config_file
from config.settings import Resolved, declarations, environment, faults
from config.text import printable


@click.group(cls=Group, short_help="Each setting, its value, where it came from.")
@program_options
def command() -> None:
    r"""Show the settings: command line, else BT_* variable, else bt.toml, else default.

    \b
    Examples:
      bt-daemon config show
      bt-daemon config path
      bt-daemon config check
    """


@command.command()
@program_options
@pass_invocation
def check(invocation: Invocation) -> int:
    r"""Say what is wrong with the settings, a line each; exit with 2 if anything is.

    \b
    Example:
      bt-daemon config check
    """
    found = faults(invocation.flags, environment(), invocation.config_file)
    for fault in found:
        click.echo(fault)
    if found:
        return 2
    resolved = invocation.resolve()
    if (moves := resolved.settings).on_done == "move" and not moves.done_dir:
        click.echo(
            f"on_done in {printable(resolved.sources['on_done'])}: move needs done_dir, which is not set"
        )
        return 2
    if moves.spec:
        from pathlib import Path

        from daemon.foreign.description import read_description

        try:
            read_description(Path(moves.spec), Path(moves.weights))
        except UsageError as error:
            click.echo(f"spec in {printable(resolved.sources['spec'])}: {error}")
            return error.exit_code
    where = printable(str(resolved.config_file)) if resolved.config_file else "no configuration file"
    click.echo(f"ok: {where}; a running daemon takes changes up when it is started again")
    return 0


@command.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@program_options
@pass_invocation
def show(invocation: Invocation, as_json: bool) -> None:
    r"""Show every setting, its value, and where the value came from.

    \b
    Example:
      bt-daemon config show --json
    """
    resolved = invocation.resolve()
    if as_json:
        from daemon.output.json_text import json_text

        click.echo(json_text(_as_dict(resolved), indent=2))
        return
    click.echo(_as_text(resolved, invocation))


@command.command()
@program_options
@pass_invocation
def path(invocation: Invocation) -> None:
    r"""Print the configuration file in use, or where one would be looked for.

    \b
    Example:
      bt-daemon config path
    """
    found = invocation.resolve().config_file
    click.echo(printable(str(found.absolute() if found else user_config_file())))
    if found is None:
        click.echo("(there is none yet; ./bt.toml is read too)", err=True)


def _as_dict(resolved: Resolved) -> dict[str, Any]:
    return {
        key: {
            "value": _without_password(getattr(resolved.settings, declared.name)),
            "source": resolved.sources[key],
            "help": declared.metadata["help"],
        }
        for key, declared in declarations().items()
    }


def _as_text(resolved: Resolved, invocation: Invocation) -> str:
    from daemon.output.facts import style_of

    style = style_of(invocation)
    table = [
        (key, _shown(declared, getattr(resolved.settings, declared.name)), printable(resolved.sources[key]))
        for key, declared in declarations().items()
    ]
    key_width, value_width = (max(len(line[column]) for line in table) + 2 for column in (0, 1))
    lines = [style("setting".ljust(key_width) + "value".ljust(value_width) + "from", bold=True)]
    for key, value, source in table:
        told = style(source, dim=True) if source == "default" else source
        lines.append(f"{key.ljust(key_width)}{value.ljust(value_width)}{told}")
    return "\n".join(lines)


def _shown(declared: Field[Any], value: Any) -> str:
    """Return a value as it would be written in bt.toml."""
    read = declared.metadata["parse"]
    return printable(parse.written(_without_password(value), read)) or "-"


def _without_password(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return re.sub(r"(://[^/:@]*):[^/@]*@", r"\1:***@", without_password(value))
