"""Command-line options made from the settings' declarations."""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Callable
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from config import parse
from config.errors import BtError
from config.settings import Resolved, Settings, declarations, default_words, environment, resolve
from config.store_url import StoreUrl, names_a_server, parse_store_url
from config.text import printable

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(slots=True)
class Invocation:
    """What the options of the whole program say, wherever on the line they stood."""

    flags: dict[str, object] = field(default_factory=dict)
    config_file: Path | None = None
    verbosity: int = 0
    color: bool = True

    def resolve(self) -> Resolved:
        """Return all settings; raise UsageError for what cannot be meant."""
        return resolve(self.flags, environment(), self.config_file)

    @property
    def settings(self) -> Settings:
        """The settings with their final values."""
        return self.resolve().settings


def setting_options(*keys: str) -> Callable[[Command], Command]:
    """Add an option for each setting; its value goes into the Invocation, not into the function."""

    def decorate(command: Command) -> Command:
        for key in reversed(keys):
            command = _option(key)(command)
        return command

    return decorate


def program_options(command: Command, *, quiet_names: tuple[str, ...] = ("-q", "--quiet")) -> Command:
    """Add the options of the whole program, so that they work before and after the command's name.

    A command that needs `-q` for itself leaves it out of `quiet_names`.
    """
    # Docstrings are raw text; click wants the control character before a paragraph it must not wrap.
    command.__doc__ = (command.__doc__ or "").replace("\\b\n", "\b\n")
    for decorate in (
        click.option(
            "--config",
            "config_file",
            type=Place(),
            expose_value=False,
            callback=_keep("config_file"),
            metavar="FILE",
            help="Configuration file.  [default: ./bt.toml, else the user's]",
        ),
        _option("db"),
        click.option(
            "-v", "--verbose", count=True, expose_value=False, callback=_louder(1), help="Say more."
        ),
        click.option(
            *quiet_names, "quiet", count=True, expose_value=False, callback=_louder(-1), help="Say less."
        ),
        _option("log_format"),
        click.option("--no-color", is_flag=True, expose_value=False, callback=_colorless, help="No colours."),
    ):
        command = decorate(command)
    return command


class Group(click.Group):
    """A group of commands that says which one a misspelt name may mean, also before they are imported."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is named and the rest of the line; raise click's UsageError."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            close = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            ctx.fail(f"there is no command {printable(repr(name))}{hint}")
        return super().resolve_command(ctx, args)


class Place(click.Path):
    """A path of a file or folder; an empty one (of an unset shell variable) is not the working folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return it as a Path; raise click's UsageError for an empty one."""
        if not os.fspath(value):
            self.fail("the name is empty", param, ctx)
        if isinstance(value, str) and names_a_server(value):
            self.fail(
                f"{printable(value)} is an address, and this takes a path; object stores are for watch",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


class Source(Place):
    """A path, or the address of an object store as a StoreUrl."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a Path or a StoreUrl; raise click's UsageError for what is neither."""
        if isinstance(value, StoreUrl):
            return value
        if not isinstance(value, str) or not names_a_server(value):
            return super().convert(value, param, ctx)
        try:
            return parse_store_url(value)
        except BtError as error:
            self.fail(str(error), param, ctx)


class Words(click.Choice[str]):
    """Some of several words, separated by commas; `commas` makes one tuple of all that were given."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the words as they were given; each must be one of the choices."""
        parts = [super(Words, self).convert(part, param, ctx) for part in parse.texts(value) or (value,)]
        return ",".join(parts)


def commas(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Take commas and repetition alike; for options with `multiple`."""
    return parse.texts(values)


def joined(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Return what was given, with commas between, None if nothing was; for options with `multiple`."""
    return ",".join(values) if values else None


def pass_invocation(command: Command) -> Command:
    """Hand the Invocation to the command as its first argument."""

    @functools.wraps(command)
    def call(*arguments: Any, **options: Any) -> Any:
        return command(invocation(click.get_current_context()), *arguments, **options)

    return call  # type: ignore[return-value]


def invocation(context: click.Context) -> Invocation:
    """Return the one Invocation of this command line."""
    found: Invocation = context.find_root().ensure_object(Invocation)
    return found


def _option(key: str) -> Callable[[Command], Command]:
    declared = declarations()[key]
    flag = f"--{key.replace('_', '-')}"
    shown = _help_text(declared)
    if declared.metadata["parse"] is parse.switch:
        names = f"{flag}/--no-{key.replace('_', '-')}" if declared.default else flag
        return click.option(
            names, key, default=None, is_flag=True, expose_value=False, callback=_flag(key), help=shown
        )
    return click.option(
        flag,
        key,
        default=None,
        expose_value=False,
        callback=_flag(key),
        multiple=declared.metadata["parse"] in parse.SEVERAL,
        metavar=declared.metadata["metavar"],
        help=shown,
    )


def _help_text(declared: Field[Any]) -> str:
    text: str = declared.metadata["help"]
    default = default_words(declared)
    return text[0].upper() + text[1:] + "." + (f"  [default: {default}]" if default else "")


def _flag(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None and value != ():
            invocation(context).flags[key] = value

    return keep


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None:
            setattr(invocation(context), name, value)

    return keep


def _louder(sign: int) -> Callable[[click.Context, click.Parameter, int], None]:
    def keep(context: click.Context, _: click.Parameter, value: int) -> None:
        invocation(context).verbosity += sign * value

    return keep


def _colorless(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        invocation(context).color = False
