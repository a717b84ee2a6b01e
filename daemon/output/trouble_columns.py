"""Columns of an image in trouble, and a cause that many of them share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.output.columns import Column, Kind
from daemon.output.terminal_table import TableStyle

if TYPE_CHECKING:
    from storage.queries.history import TroubledFile


@dataclass(frozen=True, slots=True)
class Cause:
    """A reason, and how many images have it."""

    state: str
    kind: str
    reason: str
    count: int


def state_word(each: TroubledFile) -> str:
    """Return what becomes of the image: nothing more, or another try."""
    from storage.schema import FileState

    return "quarantined" if each.state is FileState.QUARANTINED else "retrying"


def causes(found: Iterable[TroubledFile]) -> list[Cause]:
    """Return the causes, most frequent first."""
    counts = Counter((state_word(each), each.kind.value, each.reason) for each in found)
    return [Cause(*cause, count) for cause, count in counts.most_common()]


PAGE = (
    Column("id", Kind.INTEGER, lambda row: row.id),
    Column("time", Kind.TIME, lambda row: row.at_us),
    Column("file", Kind.NAME, lambda row: os.path.join(row.inbox, row.path)),
    Column("status", Kind.TEXT, state_word),
    Column("attempts", Kind.INTEGER, lambda row: row.attempts),
)
EVERY = (
    *PAGE,
    Column("next_try", Kind.TIME, lambda row: row.not_before_us),
    Column("kind", Kind.TEXT, lambda row: row.kind.value),
    Column("reason", Kind.TEXT, lambda row: row.reason),
    Column("moved_to", Kind.NAME, lambda row: row.moved_to),
)
CAUSES = (
    Column("count", Kind.INTEGER, lambda row: row.count),
    Column("status", Kind.TEXT, lambda row: row.state),
    Column("kind", Kind.TEXT, lambda row: row.kind),
    Column("reason", Kind.TEXT, lambda row: row.reason),
)

_STYLES = {"quarantined": "red", "retrying": "yellow"}
LOOK = TableStyle(
    note=lambda row: row.reason,
    style=lambda row: _STYLES[row.state if isinstance(row, Cause) else state_word(row)],
    brief=lambda _, text: text,
    spare=("attempts", "time"),
)
