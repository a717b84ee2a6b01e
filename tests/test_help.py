"""Every command's help has an example, and every example is one the command takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from daemon.cli import COMMANDS, cli

READING = (
    "results",
    "show",
    "errors",
    "retry",
    "status",
    "db",
    "config",
    "doctor",
    "report",
    "web",
    "watch",
    "classify",
    "demo",
)


def _commands(names: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in names:
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for part, subcommand in command.commands.items():
                yield f"{name} {part}", subcommand


ALL = list(_commands(READING))
NAMES = [name for name, _ in ALL]


def _examples(command: click.Command) -> list[str]:
    lines = [line.strip() for line in (command.help or "").splitlines()]
    found = [re.search(r"bt-daemon [^)|]*", line) for line in lines if "bt-daemon" in line]
    return [match[0].rstrip('" ') for match in found if match is not None]


@pytest.mark.parametrize(("name", "command"), ALL, ids=NAMES)
def test_help_has_an_example_that_the_command_takes(name: str, command: click.Command) -> None:
    examples = [line for line in _examples(command) if line.startswith(f"bt-daemon {name}")]

    assert examples
    for line in examples:
        if not isinstance(command, click.Group):
            command.make_context(name, shlex.split(line)[1 + len(name.split()) :])  # parses, runs nothing


@pytest.mark.parametrize(("name", "command"), ALL, ids=NAMES)
def test_help_is_not_run_together_and_names_every_option(name: str, command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=f"bt-daemon {name}"))

    assert "\\b" not in text
    assert re.search(r"Examples?:\n +(\$ )?\S*bt-daemon", text) or re.search(r"Examples?:\n", text)
    without_help = [
        parameter.name
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help and not parameter.hidden
    ]
    assert without_help == []


def test_options_of_the_whole_program_work_on_every_reading_command() -> None:
    for name, command in ALL:
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--db", "--config", "--quiet", "--no-color"} <= options, name


def test_the_reading_commands_are_commands_of_the_program() -> None:
    assert set(READING) <= set(COMMANDS)
