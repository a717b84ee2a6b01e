"""Columns of reviews, of what waits for one, and of results that have one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from daemon.output.columns import Column, Kind
from daemon.output.result_columns import model_name
from daemon.output.review_words import (
    ANSWER_WORDS,
    ORIGIN_WORDS,
    Said,
    full_path,
    reviewed_model,
    said,
    shown,
)
from daemon.output.words import STATUS_COLOURS

# What waits for a person; a row is a Candidate.
QUEUE: dict[str, Column] = {
    column.name: column
    for column in (
        Column("id", Kind.INTEGER, lambda one: one.row.id),
        Column("file", Kind.NAME, lambda one: one.row.full_path),
        Column("class", Kind.TEXT, lambda one: one.row.label),
        Column("score", Kind.CONFIDENCE, lambda one: one.row.score),
        Column("status", Kind.TEXT, lambda one: one.row.status.value),
        Column("why", Kind.TEXT, lambda one: ORIGIN_WORDS[one.origin]),
        Column("time", Kind.TIME, lambda one: one.row.completed_us),
        Column("threshold", Kind.CONFIDENCE, lambda one: one.row.threshold),
        Column("positive", Kind.TEXT, lambda one: one.row.positive),
        Column("model", Kind.TEXT, lambda one: model_name(one.row)),
        Column("weights_sha256", Kind.TEXT, lambda one: one.row.weights_sha256),
    )
}
QUEUE_SHOWN = ("id", "file", "class", "score", "status", "why")

# What people said; a row is a StoredReview.
REVIEWS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("id", Kind.INTEGER, lambda one: one.file_id),
        Column("time", Kind.TIME, lambda one: one.at_us),
        Column("file", Kind.NAME, full_path),
        Column("said", Kind.TEXT, said),
        Column("network", Kind.TEXT, shown),
        Column("agrees", Kind.FLAG, lambda one: one.agrees),
        Column("reviewer", Kind.TEXT, lambda one: one.reviewer),
        Column("why", Kind.TEXT, lambda one: ORIGIN_WORDS[one.origin]),
        Column("in_sample", Kind.FLAG, lambda one: one.in_sample),
        Column("note", Kind.TEXT, lambda one: one.note or None),
        Column("answer", Kind.TEXT, lambda one: ANSWER_WORDS[one.answer]),
        Column("class", Kind.TEXT, lambda one: one.label),
        Column("model", Kind.TEXT, reviewed_model),
        Column("weights_sha256", Kind.TEXT, lambda one: one.weights_sha256),
        Column("request", Kind.TEXT, lambda one: str(uuid.UUID(bytes=one.request_id))),
    )
}
REVIEWS_SHOWN = ("id", "time", "file", "said", "network", "agrees", "reviewer", "why")


def review_columns(known: Mapping[int, Said]) -> dict[str, Column]:
    """Return the columns of a result that tell what people said of its image."""
    found = (
        Column("reviewed", Kind.TEXT, lambda row: known[row.id].words if row.id in known else None),
        Column(
            "reviewer", Kind.TEXT, lambda row: ", ".join(known[row.id].reviewers) if row.id in known else None
        ),
    )
    return {column.name: column for column in found}


def agreement_colour(one: Any) -> str:
    """Return the colour of a review at a terminal: green where the network was right."""
    return {True: "green", False: "red", None: "yellow"}[one.agrees]


def queue_colour(one: Any) -> str:
    """Return the colour of a result that waits."""
    return STATUS_COLOURS[one.row.status.value]
