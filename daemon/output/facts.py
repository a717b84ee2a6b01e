"""Print facts about one thing: a heading, and aligned pairs of name and value."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import click

from config.options import Invocation
from daemon.output.sink import stdout_is_terminal


@dataclass(frozen=True, slots=True)
class Style:
    """Colours, or none where they are not wanted: a pipe, NO_COLOR, --no-color, a dumb terminal."""

    enabled: bool

    def __call__(self, text: str, color: str | None = None, *, bold: bool = False, dim: bool = False) -> str:
        """Return `text` coloured when colours are on."""
        return click.style(text, fg=color, bold=bold or None, dim=dim or None) if self.enabled else text


def style_of(invocation: Invocation, environ: Mapping[str, str] | None = None) -> Style:
    """Return the Style for stdout (https://no-color.org)."""
    environ = os.environ if environ is None else environ
    plain = bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb" or not invocation.color
    return Style(not plain and stdout_is_terminal())


def pairs(facts: Iterable[tuple[str, str]], style: Style, *, indent: str = "") -> str:
    """Return "name   value" lines, values aligned; pairs without a value are left out."""
    told = [(name, value) for name, value in facts if value]
    width = max((len(name) for name, _ in told), default=0) + 2
    lines = []
    for name, value in told:
        first, *others = value.split("\n")
        lines.append(f"{indent}{style(name.ljust(width), dim=True)}{first}")
        lines += [f"{indent}{' ' * width}{other}" for other in others]
    return "\n".join(lines)
