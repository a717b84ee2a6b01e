"""Parse the text of a setting: durations, sizes, switches, lists."""

from __future__ import annotations

import re
from collections.abc import Callable

from config.errors import UsageError
from config.text import printable

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
_PIECES = re.compile(r"(?:\[[^\]/]+\]|[^,])+")  # a comma in brackets is one of a name's
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")  # the innermost first
_NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]*)\s*")


def duration(value: object) -> float:
    """Return seconds for '2s', '500ms', '1m', '1h', '7d' or a bare number of seconds."""
    return _with_unit(value, _UNITS, "a duration", "2s, 500ms, 1m or 1h")


def byte_size(value: object) -> int:
    """Return bytes for '512MiB', '2GB' or a bare number of bytes."""
    return int(
        _with_unit(value, {unit: float(size) for unit, size in _SIZES.items()}, "a size", "512MiB or 2GB")
    )


def whole(value: object) -> int:
    """Return a whole number of at least 0."""
    text = str(value).strip().replace("_", "")
    if isinstance(value, bool) or not text.isascii() or not text.isdigit():
        raise UsageError(f"{_shown(value)} is not a whole number", hint="write it as 8 or 64")
    return int(text)


def lane_count(value: object) -> int:
    """Return how many lanes there are, 0 for one per core, -1 for none."""
    return -1 if value == "none" else whole(value)


def switch(value: object) -> bool:
    """Return a yes/no setting."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off", ""}:
        return False
    raise UsageError(f"{_shown(value)} is neither yes nor no", hint="write true or false")


def text(value: object) -> str:
    """Return a piece of text."""
    if not isinstance(value, str):
        raise UsageError(f"{_shown(value)} is not a text", hint="put it in quotation marks")
    if "\0" in value:
        raise UsageError(f"{_shown(value)} holds a NUL character, which no name can")
    return value


def texts(value: object) -> tuple[str, ...]:
    """Return a list of texts: a TOML array, several flags, or texts separated by commas, or all of these."""
    return _several(value, lambda one: one.split(","))


def globs(value: object) -> tuple[str, ...]:
    """Return a list of globs; a comma within [] is part of a name, and {a,b} means a or b."""
    return _several(
        value, lambda one: [glob for each in _alternatives(one) for glob in _PIECES.findall(each)]
    )


def tag_keywords(value: object) -> tuple[str, ...]:
    """Return a list of DICOM keywords; raise UsageError for one that the standard does not know."""
    names = texts(value)
    if names:
        from config.dicom_keywords import checked_keyword

        names = tuple(map(checked_keyword, names))
    return names


# What several values may be given to.
SEVERAL = (texts, globs, tag_keywords)


def written(value: object, read: Callable[[object], object]) -> str:
    """Return a value as a person would write it, so that `read` makes the same value of it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if read is lane_count and value == -1:
        return "none"
    if read is duration:
        return f"{value:g}s"
    if read is byte_size and isinstance(value, int):
        return _written_size(value)
    return str(value)


def _written_size(size: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def _several(value: object, split: Callable[[str], list[str]]) -> tuple[str, ...]:
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, list | tuple):
        raise UsageError(f"{_shown(value)} is not a list of texts", hint='write ["*.png", "*.jpg"]')
    parts = [part.strip() for one in value for part in split(text(one))]
    return tuple(dict.fromkeys(part for part in parts if part))


def _alternatives(glob: str) -> list[str]:
    """Spell out braces as shells do: *.{png,jpg} is *.png and *.jpg."""
    match = _BRACES.search(glob)
    if match is None:
        return [glob]
    before, after = glob[: match.start()], glob[match.end() :]
    return [one for part in match[1].split(",") for one in _alternatives(f"{before}{part}{after}")]


def _with_unit(value: object, units: dict[str, float], what: str, examples: str) -> float:
    match = _NUMBER.fullmatch(str(value)) if not isinstance(value, bool) else None
    if match is None or match[2].lower() not in units:
        raise UsageError(f"{_shown(value)} is not {what}", hint=f"write it as {examples}")
    return float(match[1]) * units[match[2].lower()]


def _shown(value: object) -> str:
    return printable(repr(value))[:80]
