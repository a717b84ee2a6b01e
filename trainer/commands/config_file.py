"""Options of a training from the command line, else a file, else the run that is resumed, else defaults."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from config.errors import UsageError
from config.text import printable
from trainer.runs.run_file import RUN_FILE, RunFile, read_run_file

# Options that say how a run is started, not what it is.
_STARTING = frozenset({"config", "resume", "overwrite", "as_json", "version"})
# Files may not be where they were, or be named otherwise: the checkpoint knows what they hold.
_BY_CONTENT = frozenset({"data", "val", "groups", "merge", "exclude_list", "annotations"})
_MAY_DIFFER = frozenset(
    {
        "epochs", "patience", "max_minutes", "device", "log", "name", "meaning", "licence", "external",
        "sensitivity", "synthetic_heads", "folds", "leave_source_out", "round_epochs", "output",
    }
)  # fmt: skip
FIND = "find"  # the learning rate that is looked for


@dataclass(slots=True)
class Layered:
    """Options with their final values, and what is to be said of them."""

    values: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def layered(context: click.Context, options: Mapping[str, Any], begun: Path | None) -> Layered:
    """Return the options: command line over `--config` over the run.toml in `begun`, a run's folder.

    Raises UsageError for a file that cannot be meant, and where what was begun cannot be gone on with.
    """
    found = Layered(dict(options))
    given = {name for name in options if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    if options["config"] is not None:
        from_file = _values(read_run_file(options["config"]), context)
        found.values |= {name: value for name, value in from_file.items() if name not in given}
        given |= from_file.keys()
    if begun is not None and (begun / RUN_FILE).exists():
        before = _values(read_run_file(begun / RUN_FILE), context)
        if "lr" in given and found.values["lr"] == FIND:
            given.discard("lr")  # it was found when the run was begun
        held = {parameter.name for parameter in _parameters(context.command).values()} - {"output"}
        _compare(found, {name: before.get(name) for name in sorted(given) if name in held}, begun)
        found.values |= {name: value for name, value in before.items() if name not in given}
    return found


def option_values(command: click.Command, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return option -> plain value as run.toml holds them: paths absolute, None where nothing is given."""
    named = {_key(parameter): parameter for parameter in _parameters(command).values()}
    return {
        key: _plain(parameter, options[parameter.name])
        for key, parameter in named.items()
        if parameter.name in options and parameter.name != "output"
    }


def whole_command(command: click.Command, options: Mapping[str, Any], output: Path) -> str:
    """Return the command line that says everything that a file said, for the card."""
    words = ["bt-train"]
    for parameter in _parameters(command).values():
        value = options.get(parameter.name or "")
        if parameter.name == "output" or value in {None, ()} or value == parameter.default:
            continue
        name = parameter.opts[0]
        if parameter.is_flag:
            words.append(name if value else (parameter.secondary_opts or [name])[0])
        else:
            for one in value if parameter.multiple else [value]:
                words += [name, str(one)]
    return shlex.join([*words, "-o", str(output)])


def _parameters(command: click.Command) -> dict[str, click.Option]:
    """Return the options that a file may hold, by the names that they have in it."""
    return {
        _key(parameter): parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name not in _STARTING
    }


def _key(parameter: click.Option) -> str:
    return next(name for name in parameter.opts if name.startswith("--")).removeprefix("--")


def _values(file: RunFile, context: click.Context) -> dict[str, Any]:
    """Return parameter name -> value of a file's options; raise UsageError at the first that is none."""
    known = _parameters(context.command)
    found = {}
    for key, value in file.values.items():
        parameter = known.get(key.replace("_", "-"))
        if parameter is None:
            close = difflib.get_close_matches(key, known, n=1)
            raise UsageError(
                f"{file.place(key)}: there is no option {printable(repr(key))}",
                hint=f"did you mean {close[0]}?" if close else "bt-train --help names the options",
            )
        assert parameter.name is not None
        found[parameter.name] = _value(file, key, value, parameter, context)
    return found


def _value(file: RunFile, key: str, value: object, parameter: click.Option, context: click.Context) -> Any:
    values = value if isinstance(value, list) and parameter.multiple else [value]
    kinds, words = _kinds(parameter)
    for one in values:
        if not isinstance(one, kinds) or (isinstance(one, bool) and bool not in kinds):
            raise UsageError(f"{file.place(key)}: {printable(key)} takes {words}, not {_shown(one)}")
    if _is_path(parameter):
        values = [_below(file.path, str(one)) for one in values]
    try:
        return parameter.type_cast_value(context, values if parameter.multiple else values[0])
    except click.BadParameter as error:
        raise UsageError(
            f"{file.place(key)}: {printable(key)} = {_shown(value)}: {error.message.rstrip('.')}"
        ) from None


def _kinds(parameter: click.Option) -> tuple[tuple[type, ...], str]:
    """Return the types of TOML that an option takes, and their words."""
    if parameter.is_flag:
        return (bool,), "true or false"
    if isinstance(parameter.type, click.types.IntParamType):
        return (int,), "a whole number"
    if isinstance(parameter.type, click.types.FloatParamType):
        return (int, float), "a number"
    if isinstance(parameter.type, LearningRate):
        return (int, float, str), 'a number or "find"'
    return (str,), 'text in quotes, or a list of such: ["a", "b"]' if parameter.multiple else "text in quotes"


def _is_path(parameter: click.Option) -> bool:
    return isinstance(parameter.type, click.Path) or parameter.name == "groups"


def _below(file: Path, text: str) -> str:
    """Return a path of a file, which is relative to it, as an absolute one; words stay as they are."""
    return text if text in {"auto", "none"} else str(file.absolute().parent / Path(text).expanduser())


def _plain(parameter: click.Option, value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(parameter, one) for one in value]
    if value is not None and _is_path(parameter):
        return value if value in {"auto", "none"} else str(Path(value).absolute())
    return value


def _compare(found: Layered, before: Mapping[str, Any], folder: Path) -> None:
    """Refuse what makes another training of what was begun; note what may differ."""
    other: list[str] = []
    noted: list[str] = []
    for name, was in before.items():
        now, shown = found.values[name], name.replace("_", " ")
        if now == was or name in _BY_CONTENT:
            continue
        text = f"{shown} ({_shown(was)}, now {_shown(now)})"
        (noted if name in _MAY_DIFFER else other).append(text)
    if other:
        raise UsageError(
            f"{printable(str(folder))} was begun with another {', another '.join(other)}",
            hint=f"leave these options out to go on as it was begun ({RUN_FILE} has them all), "
            "or train without --resume",
        )
    if noted:
        found.notes.append(f"other than when the run was begun: {', '.join(noted)}")


def _shown(value: object) -> str:
    return printable(repr(str(value) if isinstance(value, Path) else value))


if TYPE_CHECKING:
    _FloatOrWord = click.ParamType[float | str]
else:
    _FloatOrWord = click.ParamType  # no generic before click 8.3


class LearningRate(_FloatOrWord):
    """A positive number, or "find"."""

    name = "number|find"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Return the number or the word; fail with one line for anything else."""
        if value == FIND:
            return FIND
        try:
            number = float(value)
        except (TypeError, ValueError):
            self.fail(f"{printable(repr(value))} is neither a number nor {FIND}", param, ctx)
        if not 0 < number < float("inf"):
            self.fail(f"{number:g} is not above 0", param, ctx)
        return number
