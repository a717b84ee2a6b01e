"""Options that choose among results by time, class, score, status, model and text, declared once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from config.options import Words, commas
from storage.records import Status

_Command = TypeVar("_Command", bound=Callable[..., Any])

_STATUSES = (*(status.value for status in Status), "all")
_SURE = click.FloatRange(0, 1)
_CHOOSING = (
    click.option(
        "--since",
        metavar="WHEN",
        help="Not before: today, this week, 2h ago, 7d, 14:30, 2026-11, 2026-11-01 14:30.",
    ),
    click.option("--until", metavar="WHEN", help="Before that time."),
    click.option(
        "--class", "labels", metavar="NAME,...", multiple=True, help="Only these classes of the model."
    ),
    click.option("--min-confidence", type=_SURE, metavar="X", help="At least so sure, 0 to 1."),
)
_SCORES = (
    click.option("--min-score", type=_SURE, metavar="X", help="Score at least X, 0 to 1."),
    click.option("--max-score", type=_SURE, metavar="X", help="Score at most X, 0 to 1."),
)
_NAMING = (
    click.option(
        "--status", "statuses", type=Words(_STATUSES), multiple=True, callback=commas,
        metavar="[ok|uncertain|rejected|error|all],...", help="Only these statuses.",
    ),
    click.option("--model", metavar="NAME|HASH", help="Only judged by this model."),
    click.option("-q", "text", metavar="TEXT", default="", help="TEXT is part of the path or of the reason."),
)  # fmt: skip


def filter_options(*, scores: bool = True) -> Callable[[_Command], _Command]:
    """Return a decorator that gives a command the filters `daemon.views.result_options.Options` takes.

    Without `scores` those of the score itself are left out.
    """

    def decorate(command: _Command) -> _Command:
        for option in reversed((*_CHOOSING, *(_SCORES if scores else ()), *_NAMING)):
            command = option(command)
        return command

    return decorate
