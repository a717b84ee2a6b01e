"""How the text of a setting becomes a value: durations, sizes, switches, lists."""

from __future__ import annotations

import re

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
    return value


def texts(value: object) -> tuple[str, ...]:
    """Return a list of texts: a TOML array, several flags, or one text separated by commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list | tuple):
        return tuple(text(part) for part in value)
    raise UsageError(f"{_shown(value)} is not a list of texts", hint='write ["*.png", "*.jpg"]')


def _with_unit(value: object, units: dict[str, float], what: str, examples: str) -> float:
    match = _NUMBER.fullmatch(str(value)) if not isinstance(value, bool) else None
    if match is None or match[2].lower() not in units:
        raise UsageError(f"{_shown(value)} is not {what}", hint=f"write it as {examples}")
    return float(match[1]) * units[match[2].lower()]


def _shown(value: object) -> str:
    return printable(repr(value))[:80]
