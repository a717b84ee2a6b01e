"""Tell the viewer what it shows: the answers to one file, and the files of its series in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from config.text import printable, printable_name
from daemon.output.cells import confidence_text
from daemon.web.pages.charts import colour
from storage.queries.results import ResultRow, rows
from storage.queries.series_rows import SliceRow, series_rows, slices_of
from storage.query import Grouping, Query
from storage.records import Status

if TYPE_CHECKING:
    import sqlalchemy as sa

    from daemon.web.pages.render import ModelBook

SHORT = 16  # digits of a weights' hash in an address
MOST_JUDGED = 6  # of one image, beside each other
# Files of a series that a viewer goes through; of a longer one those around the file it begins with.
_MOST_FILES = 2_000


def judged_rows(connection: sa.Connection, file_id: int, model: str | None = None) -> list[ResultRow]:
    """Return the results of one file version that are no errors, one per model, newest first."""
    query = Query(file_id=file_id, model=model, limit=4 * MOST_JUDGED)
    found = [row for row in rows(connection, query) if row.status is not Status.ERROR]
    return list({row.weights_sha256: row for row in reversed(found)}.values())[::-1][:MOST_JUDGED]


def told_view(
    connection: sa.Connection, book: ModelBook, file_id: int, model: str | None
) -> dict[str, object] | None:
    """Return what `/api/view/ID` says, None if there is no such image or it was not judged.

    With `model` (the first digits of a weights' hash) that model's answer comes first, and the series is
    that model's.
    """
    judged = judged_rows(connection, file_id)
    if not judged:
        return None
    judged.sort(key=lambda row: not (model and row.weights_sha256.startswith(model)))
    first = judged[0]
    return {
        "id": file_id,
        "file": printable_name(first.path),
        "slice": first.slice_index or 0,
        "slices": first.slice_count or 1,
        "models": [_model(row, book) for row in judged],
        "series": _series(connection, book, first),
    }


def _model(row: ResultRow, book: ModelBook) -> dict[str, object]:
    words = book.of(row.weights_sha256)
    return {
        "model": row.weights_sha256[:SHORT],
        "name": printable(f"{row.model} {row.model_version} {row.weights_sha256[:8]}"),
        "said": _said(row, book.meaning(row.label, [row]) if row.label is not None else None),
        "shade": colour(row.label, row.status, [row.label or ""], _positive(row, book)),
        "shown": None if words.no_heatmap else book.meaning(words.shown, [row]),
        "positive": row.positive,
    }


def _series(connection: sa.Connection, book: ModelBook, row: ResultRow) -> dict[str, object] | None:
    """Return the series of a file with the model's answers, None if it is alone."""
    asked = Query(file_id=row.id, model=row.weights_sha256)
    found = next(iter(list(series_rows(connection, Grouping.SERIES, asked))), None)
    if found is None:
        return None
    files = slices_of(connection, found.id, row.weights_sha256)
    place = next((place for place, one in enumerate(files) if one.file_id == row.id), None)
    if place is None or len(files) < 2:
        return None
    first = max(0, min(place - _MOST_FILES // 2, len(files) - _MOST_FILES))
    shown = files[first : first + _MOST_FILES]
    return {
        "id": found.id,
        "first": first,
        "of": len(files),
        "at": place - first,
        "files": _files(shown, _positive(row, book)),
    }


def _files(files: Sequence[SliceRow], positive: list[str]) -> list[dict[str, object]]:
    labels = sorted({one.label for one in files if one.label is not None})
    return [
        {
            "id": one.file_id,
            "file": printable_name(one.path),
            "said": _said(one, one.label),
            "shade": colour(one.label, one.status, labels, positive),
            "slice": one.slice_index or 0,
            "drawn": one.status is not Status.ERROR,
        }
        for one in files
    ]


def _said(row: ResultRow | SliceRow, label: str | None) -> str:
    """Return an answer in some words."""
    parts = [] if label is None else [printable(label)]
    if row.score is not None:
        parts.append(f"score {confidence_text(row.score)}")
    if row.status is not Status.OK:
        parts.append(row.status.value)
    return ", ".join(parts)


def _positive(row: ResultRow, book: ModelBook) -> list[str]:
    found = row.positive or book.of(row.weights_sha256).positive
    return [] if found is None else [found]
