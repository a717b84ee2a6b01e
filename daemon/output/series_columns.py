"""Columns of a series, study or patient, their order, and those shown when nobody chooses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from daemon.output.columns import Column, Kind
from daemon.output.result_columns import LOOK, model_name
from daemon.output.terminal_table import TableStyle
from storage.query import Grouping

if TYPE_CHECKING:
    from storage.queries.series_rows import SeriesRow

_CHOICE = {
    Grouping.SERIES: ("series", "study", "patient", "class", "score", "status", "slices", "complete"),
    Grouping.STUDY: ("study", "patient", "class", "score", "status", "series_count", "slices", "complete"),
    Grouping.PATIENT: ("patient", "class", "score", "status", "series_count", "slices", "complete"),
}


def series_columns(now_us: int, quiet_us: int) -> dict[str, Column]:
    """Return the columns at a time: a series to which nothing came for `quiet_us` is complete."""
    found = (
        Column("id", Kind.INTEGER, lambda row: row.id),
        Column("time", Kind.TIME, lambda row: row.touched_us),
        Column("series", Kind.TEXT, lambda row: row.name),
        Column("study", Kind.TEXT, lambda row: row.study),
        Column("patient", Kind.TEXT, lambda row: row.patient),
        Column("class", Kind.TEXT, lambda row: row.label),
        Column("score", Kind.CONFIDENCE, lambda row: row.score),
        Column("confidence", Kind.CONFIDENCE, lambda row: row.confidence),
        Column("status", Kind.TEXT, lambda row: row.status.value),
        Column("series_count", Kind.INTEGER, lambda row: row.series),
        Column("slices", Kind.INTEGER, lambda row: row.slices),
        Column("rejected", Kind.INTEGER, lambda row: row.rejected),
        Column("files", Kind.INTEGER, lambda row: row.files),
        Column("complete", Kind.FLAG, lambda row: row.is_complete(now_us, quiet_us)),
        Column("model", Kind.TEXT, model_name),
        Column("first", Kind.TIME, lambda row: row.first_us),
        Column("file", Kind.NAME, _decisive),
        Column("file_id", Kind.INTEGER, lambda row: row.decisive_file_id),
        Column("inbox", Kind.NAME, lambda row: row.inbox),
        Column("weights_sha256", Kind.TEXT, lambda row: row.weights_sha256),
        Column("threshold", Kind.CONFIDENCE, lambda row: row.threshold),
        Column("positive", Kind.TEXT, lambda row: row.positive),
        Column("uncertain_low", Kind.CONFIDENCE, lambda row: row.uncertain_low),
        Column("uncertain_high", Kind.CONFIDENCE, lambda row: row.uncertain_high),
    )
    return {column.name: column for column in found}


SLICE_COLUMNS = (
    Column("file_id", Kind.INTEGER, lambda row: row.file_id),
    Column("file", Kind.NAME, lambda row: row.moved_to or os.path.join(row.inbox, row.path)),
    Column("position", Kind.CONFIDENCE, lambda row: row.position),  # a number, too, though not 0..1
    Column("time", Kind.TIME, lambda row: row.completed_us),
    Column("class", Kind.TEXT, lambda row: row.label),
    Column("score", Kind.CONFIDENCE, lambda row: row.score),
    Column("confidence", Kind.CONFIDENCE, lambda row: row.confidence),
    Column("status", Kind.TEXT, lambda row: row.status.value),
    Column("slice_index", Kind.INTEGER, lambda row: row.slice_index),
    Column("slice_count", Kind.INTEGER, lambda row: row.slice_count),
)


def terminal_columns(grouping: Grouping) -> tuple[str, ...]:
    """Return what a terminal shows."""
    return ("time", *_CHOICE[grouping], "model")


def plain_columns(grouping: Grouping) -> tuple[str, ...]:
    """Return what a pipe gets; programs know these columns by their place: what is new comes last."""
    return ("id", "time", *_CHOICE[grouping], "model", "rejected", "file", "threshold", "positive")


def _decisive(row: SeriesRow) -> bytes | None:
    return None if row.decisive_path is None else os.path.join(row.inbox, row.decisive_path)


SERIES_LOOK = TableStyle(
    note=lambda row: None if row.label else "all slices are unlike the images the model was made for",
    style=LOOK.style,
    brief=LOOK.brief,
    spare=LOOK.spare,
)
