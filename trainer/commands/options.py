"""Options and words that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

DISCLAIMER = "What it trains is not a medical device: research use only, never for diagnosis or treatment."


_FOLDER = click.Path(path_type=Path)
