"""Columns of a result, their order, and those shown when nobody chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.output.columns import Column, Kind
from daemon.output.terminal_table import TableStyle
from daemon.output.words import STATUS_COLOURS

if TYPE_CHECKING:
    from storage.queries.results import ResultRow
    from storage.queries.series_rows import SeriesRow

SHORT_HASH = 8  # hex digits of a weights file's sha256: enough to tell models apart at a glance


def model_name(row: ResultRow | SeriesRow) -> str:
    """Return a model as people name it, with the hash that tells it from all others."""
    return f"{row.model} {row.model_version} {row.weights_sha256[:SHORT_HASH]}"


COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("id", Kind.INTEGER, lambda row: row.id),
        Column("time", Kind.TIME, lambda row: row.completed_us),
        Column("file", Kind.NAME, lambda row: row.full_path),
        Column("class", Kind.TEXT, lambda row: row.label),
        Column("confidence", Kind.CONFIDENCE, lambda row: row.confidence),
        Column("status", Kind.TEXT, lambda row: row.status.value),
        Column("model", Kind.TEXT, model_name),
        Column("reason", Kind.TEXT, lambda row: row.reason),
        Column("inbox", Kind.NAME, lambda row: row.inbox),
        Column("path", Kind.NAME, lambda row: row.path),
        Column("moved_to", Kind.NAME, lambda row: row.moved_to),
        Column("size", Kind.INTEGER, lambda row: row.size),
        Column("sha256", Kind.TEXT, lambda row: None if row.sha256 is None else row.sha256.hex()),
        Column("slice_index", Kind.INTEGER, lambda row: row.slice_index),
        Column("slice_count", Kind.INTEGER, lambda row: row.slice_count),
        Column("tags", Kind.MAPPING, lambda row: row.tags),
        Column("duration_us", Kind.INTEGER, lambda row: row.duration_us),
        Column("superseded", Kind.FLAG, lambda row: row.superseded),
        Column("weights_sha256", Kind.TEXT, lambda row: row.weights_sha256),
        Column("engine", Kind.TEXT, lambda row: row.engine),
        Column("precision", Kind.TEXT, lambda row: row.precision),
        Column("device", Kind.TEXT, lambda row: row.device),
        Column("score", Kind.CONFIDENCE, lambda row: row.score),
        Column("threshold", Kind.CONFIDENCE, lambda row: row.threshold),
        Column("positive", Kind.TEXT, lambda row: row.positive),
        Column("uncertain_low", Kind.CONFIDENCE, lambda row: row.uncertain_low),
        Column("uncertain_high", Kind.CONFIDENCE, lambda row: row.uncertain_high),
    )
}
# At a terminal the reason stands below the file's name, and what a score is compared with below the table.
TERMINAL = ("id", "time", "file", "class", "score", "status", "model")
# Programs know these columns by their place: what is new comes last.
PLAIN = ("id", "time", "file", "class", "confidence", "status", "model", "reason", "score", "threshold",
         "positive")  # fmt: skip
EVERY = tuple(COLUMNS)


def _brief(column: str, text: str) -> str:
    """Of a model only the hash is left where the line is short."""
    return text[-SHORT_HASH:] if column == "model" else text


LOOK = TableStyle(
    note=lambda row: row.reason,
    style=lambda row: STATUS_COLOURS[row.status.value],
    brief=_brief,
    spare=("model", "time"),
)
