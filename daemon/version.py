"""Version text of `bt-daemon --version`: the program, the engine it would use, the model it ships."""

from __future__ import annotations

import platform
import sqlite3
from importlib import metadata
from pathlib import Path

from config.errors import WeightsError

DISTRIBUTION = "bt-daemon"
SHORT_HASH = 8  # hex digits of a weights file's sha256: enough to tell models apart at a glance


def version_text() -> str:
    """Return three lines: versions, engine, model; reads packages' metadata, imports none of them."""
    around = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    return f"{DISTRIBUTION} {program_version()} ({around})\nengine: {engine_text()}\nmodel: {model_text()}"


def program_version() -> str:
    """Return the installed version; a checkout that was never installed has the one of its pyproject.toml."""
    return _installed(DISTRIBUTION) or _checkout_version()


def engine_text() -> str:
    """Return the engine that judges on a CPU, with its version."""
    for package in ("openvino", "torch"):
        if version := _installed(package):
            return f"{package} {version}"
    return "none"


def model_text() -> str:
    """Return name, version and short hash of the shipped model."""
    from trainer.model.identity import default_weights, weights_sha256
    from trainer.model.weights import read_spec

    path = default_weights()
    try:
        spec = read_spec(path)
        return f"{spec.name} {spec.version} ({weights_sha256(path)[:SHORT_HASH]})"
    except (WeightsError, OSError):
        return "none is shipped; name one with --weights"


def _checkout_version() -> str:
    import tomllib

    try:
        raw = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))
        return f"{raw['project']['version']} (checkout)"
    except (OSError, KeyError, ValueError):
        return "(not installed)"


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
