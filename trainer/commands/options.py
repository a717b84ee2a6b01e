"""Options and words that several commands share."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from config.text import DISCLAIMER

FOLDER = click.Path(path_type=Path)


def command_line() -> str:
    """Return the command line as a shell takes it, without what only says how this run was started."""
    once = {"--resume", "--overwrite"}
    return shlex.join(["bt-train", *(word for word in sys.argv[1:] if word not in once)])


def echo_caveats(report: Mapping[str, Any]) -> None:
    """Print to stderr a report's warning, if there is one, and the disclaimer."""
    if report["warning"]:
        click.echo(f"warning: {report['warning']}", err=True)
    click.echo(DISCLAIMER, err=True)
