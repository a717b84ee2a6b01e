"""Options and words that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

_FOLDER = click.Path(path_type=Path)
