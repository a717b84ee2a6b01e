"""Read the description of a network that was not trained here: a TOML file becomes a ModelSpec.

Imports nothing slow: the daemon's start waits for it.
"""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import msgspec

from config.errors import BtError, UsageError
from config.text import printable
from trainer.model.foreign_network import FOREIGN_ARCHITECTURE, Fit, ForeignNetwork, SquareFraming
from trainer.model.spec import Decision, ModelSpec, Preprocessing, Provenance

_LARGEST = 1 << 20  # bytes: the names of a thousand classes have 20,000
HINT = "bt-daemon's description files: daemon/README.md, 'Networks of others'"


@dataclass(frozen=True, slots=True)
class _Input:
    size: int
    channels: Literal[1, 3] = 3
    scale: float = 1 / 255  # what pixels 0..255 are multiplied with, before mean and std
    mean: float | list[float] = 0.0
    std: float | list[float] = 1.0
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    colours: Literal["RGB", "BGR"] = "RGB"
    fit: Fit = "crop"
    resize: int = 0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Output:
    gives: Literal["logits", "softmax", "sigmoid"] = "logits"
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Decision:
    positive: str | None = None
    threshold: float = 0.5
    uncertain_low: float | None = None
    uncertain_high: float | None = None
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class _Description:
    classes: list[str] | str
    input: _Input
    output: _Output = field(default_factory=_Output)
    decision: _Decision = field(default_factory=_Decision)
    name: str = ""
    version: str = "1"
    licence: str = ""
    meanings: dict[str, str] = field(default_factory=dict)


# Table -> the names that may stand in it.
_KNOWN: dict[str, type[Any]] = {
    "": _Description,
    "input": _Input,
    "output": _Output,
    "decision": _Decision,
}


def read_description(path: Path, network: Path) -> ModelSpec:
    """Return the spec that a description file gives the ONNX file `network`; raise UsageError, one line."""
    shown = printable(str(path))
    try:
        raw = tomllib.loads(_text(path))
        _check_names(raw)
        return _spec(msgspec.convert(raw, _Description), path, network)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"cannot read the description {shown} ({reason})", hint=HINT) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{shown} is not TOML ({printable(str(error))[:100]})", hint=HINT) from None
    except msgspec.ValidationError as error:
        raise UsageError(f"{shown}: {_reason(error)}", hint=HINT) from None
    except BtError as error:
        told = error.what.replace("the weights file's spec.", "").replace("the weights file's", "its")
        told = told.replace("the weights file", "it")
        raise UsageError(f"{shown}: {told}", hint=error.hint or HINT) from None


def _text(path: Path, largest: int = _LARGEST) -> str:
    with path.open("rb") as stream:
        data = stream.read(largest + 1)
    if len(data) > largest:
        raise UsageError(f"{printable(str(path))} is larger than {largest >> 20} MiB")
    return data.decode("utf-8")


def _check_names(raw: dict[str, Any]) -> None:
    """Refuse a misspelt name, with what may be meant."""
    for table, kind in _KNOWN.items():
        given = raw if not table else raw.get(table, {})
        known = [one.name for one in fields(kind)]
        for name in given if isinstance(given, dict) else ():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
                where = f"[{table}] has no" if table else "there is no"
                meant = f", did you mean {near[0]}?" if near else f" (there are {', '.join(known)})"
                raise UsageError(f"{where} {printable(repr(name))}{meant}")


def _reason(error: msgspec.ValidationError) -> str:
    problem, _, where = str(error).partition(" - at `$")
    name = where.strip("`.")
    problem = f"{problem[:1].lower()}{problem[1:]}".replace("object ", "")
    return printable(f"{name}: {problem}" if name else problem)


def _spec(told: _Description, path: Path, network: Path) -> ModelSpec:
    classes = _classes(told.classes, path)
    given = told.input
    decision = told.decision
    threshold = decision.threshold
    spec = ModelSpec(
        name=told.name or network.stem[:100],
        version=told.version,
        architecture=FOREIGN_ARCHITECTURE,
        classes=classes,
        meanings=told.meanings,
        preprocessing=_preprocessing(given),
        decision=Decision(
            temperature=decision.temperature,
            positive=decision.positive,
            threshold=threshold,
            uncertain_low=_or(decision.uncertain_low, threshold if decision.positive else 0.0),
            uncertain_high=_or(decision.uncertain_high, threshold if decision.positive else 0.0),
        ),
        foreign=ForeignNetwork(
            gives=told.output.gives,
            layout=given.layout,
            colours=given.colours,
            input=given.name,
            output=told.output.name,
            licence=told.licence,
        ),
        provenance=Provenance(software={"file": network.name}),
    )
    if told.output.gives == "sigmoid" and len(classes) != 2:
        raise UsageError(
            "gives = 'sigmoid' is for one number that tells two classes apart",
            hint="for more classes of which one is right give 'logits' or 'softmax'",
        )
    return ModelSpec.from_json(spec.to_json())  # which checks every value


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _classes(told: list[str] | str, path: Path) -> tuple[str, ...]:
    """Return the classes: as listed, or the lines of a file beside the description."""
    if isinstance(told, str):
        lines = _text(path.parent / told).splitlines()
        told = [line.strip() for line in lines if line.strip()]
    seen: set[str] = set()
    for name in told:
        if name in seen:
            raise UsageError(
                f"the class {printable(repr(name)[:80])} stands twice", hint="give each its own name"
            )
        seen.add(name)
    return tuple(told)


def _preprocessing(given: _Input) -> Preprocessing:
    """Return the same as mean and std of pixels that are scaled to 0..1."""
    if not given.scale > 0:
        raise UsageError("input.scale is not above 0")
    if given.fit != "crop" and given.resize:
        raise UsageError("input.resize is for fit = 'crop'", hint="leave it out")
    if given.resize and given.resize < given.size:
        raise UsageError("input.resize is smaller than input.size")
    mean, std = (_per_channel(one, given.channels) for one in (given.mean, given.std))
    by = 255 * given.scale
    return Preprocessing(
        image_size=given.size,
        crop_head=False,
        mean=_each(mean, by),
        std=_each(std, by),
        channels=given.channels,
        framing=SquareFraming(given.fit, given.resize, given.interpolation),
    )


Numbers = float | tuple[float, float, float]


def _each(numbers: Numbers, by: float) -> Numbers:
    if isinstance(numbers, tuple):
        return (numbers[0] / by, numbers[1] / by, numbers[2] / by)
    return numbers / by


def _per_channel(told: float | list[float], channels: int) -> Numbers:
    if not isinstance(told, list):
        return float(told)
    if len(told) != channels:
        raise UsageError(f"input.mean and input.std need one number, or one for each of {channels} channels")
    return (told[0], told[1], told[2]) if channels == 3 else float(told[0])


def description_key(network_sha256: str, spec: ModelSpec) -> str:
    """Return the name of a network with this description: another word in it is another model."""
    return hashlib.sha256(f"{network_sha256}\0{spec.to_json()}".encode()).hexdigest()
