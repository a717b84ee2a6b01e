"""Candidates for review as JSON: an image's pictures, classes, and what the network said."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from config.text import printable, printable_name
from daemon.output.cells import confidence_text
from daemon.web.pages.render import ModelBook
from storage.queries.results import ResultRow
from storage.queries.series_rows import SliceRow, series_rows, slices_of
from storage.queries.statistics import model_classes
from storage.query import Grouping, Query
from storage.reviews.review_queue import ReviewCandidate

Told = dict[str, Any]  # a JSON object

# Neighbours in its series on each side that are shown with an image.
_AROUND = 4


def candidate_words(connection: sa.Connection, candidate: ReviewCandidate, book: ModelBook) -> Told:
    """Return what there is to say of an image, as JSON knows it."""
    row = candidate.row
    words = book.of(row.weights_sha256)
    asked = f"model={row.weights_sha256[:16]}"
    heatmap = None if words.no_heatmap else f"/image/{row.id}/heatmap.webp?{asked}"
    return {
        "id": row.id,
        "name": printable_name(row.path),
        "page": f"/image/{row.id}",
        "model": row.weights_sha256,
        "model_name": printable(f"{row.model} {row.model_version} {row.weights_sha256[:8]}"),
        "origin": candidate.origin.name.lower(),
        "plain": f"/image/{row.id}/plain.webp?{asked}",
        "heatmap": heatmap,
        "heatmap_of": None if words.no_heatmap else book.meaning(words.shown, [row]),
        "classes": _classes(connection, row, book),
        "said": _said(row, book),
        "series": _series(connection, row),
    }


def _classes(connection: sa.Connection, row: ResultRow, book: ModelBook) -> list[Told]:
    classes = model_classes(connection).get(row.weights_sha256, ())
    return [{"name": one, "meaning": book.meaning(one, [row])} for one in classes]


def _said(row: ResultRow, book: ModelBook) -> Told:
    label = None if row.label is None else book.meaning(row.label, [row])
    sure = "" if row.score is None else f"score {confidence_text(row.score)}"
    if row.score is None and row.confidence is not None:
        sure = f"confidence {confidence_text(row.confidence)}"
    words = ", ".join(filter(None, (label, sure, row.status.value)))
    return {
        "status": row.status.value,
        "class": row.label,
        "meaning": label,
        "words": words,
        "reason": None if row.reason is None else printable(row.reason),
    }


def _series(connection: sa.Connection, row: ResultRow) -> Told | None:
    query = Query(file_id=row.id, model=row.weights_sha256)
    part_of = next(iter(series_rows(connection, Grouping.SERIES, query)), None)
    if part_of is None:
        return None
    slices = slices_of(connection, part_of.id, row.weights_sha256)
    place = next((number for number, one in enumerate(slices) if one.file_id == row.id), None)
    if place is None or len(slices) < 2:
        return None
    around = slices[max(0, place - _AROUND) : place + _AROUND + 1]
    return {
        "page": f"/series/{part_of.id}?model={row.weights_sha256[:16]}",
        "place": place + 1,
        "count": len(slices),
        "slices": [_slice(one, row.weights_sha256) for one in around],
    }


def _slice(one: SliceRow, weights_sha256: str) -> Told:
    asked = f"model={weights_sha256[:16]}"
    return {
        "id": one.file_id,
        "small": f"/image/{one.file_id}/plain.webp?size=small&{asked}",
        "plain": f"/image/{one.file_id}/plain.webp?{asked}",
        "name": printable_name(one.path),
    }
