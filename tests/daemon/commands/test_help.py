"""Every command's help has an example, and every example is one the command takes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from config.settings import declarations
from daemon.cli import COMMANDS, cli, main
from tests.conftest import REPOSITORY

READING = (
    "results",
    "show",
    "review",
    "errors",
    "retry",
    "status",
    "db",
    "config",
    "doctor",
    "report",
    "web",
    "listen",
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


@pytest.mark.defects(34)
@pytest.mark.parametrize("words", [[], ["db"], ["config"]])
def test_a_program_or_group_alone_prints_its_help_to_stdout(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(words)
    bare = capsys.readouterr()
    main([*words, "--help"])
    asked = capsys.readouterr()

    assert (code, bare.err) == (2, "")
    assert bare.out == asked.out
    assert len(bare.out.splitlines()) > 10


@pytest.mark.defects(34)
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["wacth", "x"], "there is no command 'wacth', did you mean watch? (see bt-daemon --help)"),
        (["db", "bakup"], "there is no command 'bakup', did you mean backup? (see bt-daemon db --help)"),
        (["--no-color", "zzz\n"], "there is no command 'zzz\\n' (see bt-daemon --help)"),
    ],
)
def test_a_misspelt_command_is_one_line_with_a_suggestion(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr() == ("", f"bt-daemon: {line}\n")


@pytest.mark.defects(34)
def test_help_names_the_default_of_every_setting_that_is_not_a_switch_left_off() -> None:
    for name, command in ALL:
        settings = {key for key, declared in declarations().items() if declared.default is not False}
        for parameter in command.params:
            if parameter.name in settings and isinstance(parameter, click.Option):
                assert "[default: " in (parameter.help or ""), f"{name} {parameter.name}"


def test_minus_h_prints_the_help_of_every_command() -> None:
    """In a process of its own: click remembers by which names help was asked for first."""
    code = "import sys; from daemon.cli import main; print([main([*n.split(), '-h']) for n in sys.argv[1:]])"

    ran = subprocess.run(
        [sys.executable, "-c", code, *NAMES], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert re.findall(r"^Usage: bt-daemon (.*?) [\[A-Z]", ran.stdout, re.MULTILINE) == NAMES
    assert ran.stdout.splitlines()[-1] == str([0] * len(NAMES))
