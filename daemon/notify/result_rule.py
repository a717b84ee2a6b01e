"""Result rules: which results are told of, CLASS or CLASS:SCORE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from config.errors import UsageError
from config.text import printable


@dataclass(frozen=True, slots=True)
class ResultRule:
    """A class, and the least calibrated probability of it; None: any."""

    label: str
    least: float | None = None


def result_rules(texts: Sequence[str], classes: Sequence[str]) -> tuple[ResultRule, ...]:
    """Return the rules of `--notify-when`; raise UsageError for a class that the model does not have."""
    return tuple(_rule(text, classes) for text in texts)


def _rule(text: str, classes: Sequence[str]) -> ResultRule:
    shown = printable(repr(text))
    if text in classes:  # a class may have a colon in its name
        return ResultRule(text)
    label, colon, number = text.rpartition(":")
    if not colon:
        label, number = text, ""
    if label not in classes:
        raise UsageError(
            f"--notify-when {shown}: the model has no such class",
            hint=f"it has {printable(', '.join(classes))}",
        )
    try:
        least = float(number)
    except ValueError:
        least = -1.0
    if not 0 <= least <= 1:
        raise UsageError(f"--notify-when {shown}: no score between 0 and 1", hint=f"write {label}:0.9")
    return ResultRule(label, least)
