"""Import of reviews from CSV: all lines are checked against the database before the first is stored."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from config.text import printable
from daemon.exchange.review_csv import BadLine, ReviewLine
from daemon.output.cells import name_text, spreadsheet_text, unquoted
from daemon.output.result_columns import model_name
from storage.queries.results import ResultRow, rows
from storage.queries.statistics import model_classes
from storage.query import Query, Sort
from storage.records import Status
from storage.reviews.answers import Review
from storage.reviews.review_rows import reviews_of
from storage.reviews.review_writer import AT_ONCE

if TYPE_CHECKING:
    import sqlalchemy as sa

    from storage.reviews.answers import StoredReview
    from storage.reviews.review_writer import ReviewWriter

# A line is the same request whenever it is imported: of these words within this namespace (RFC 9562, 5.5).
_LINES = uuid.UUID("6f6f6d7a-61b0-5c5e-9a53-0c7fb6f2a1de")


@dataclass(frozen=True, slots=True)
class Checked:
    """Lines of a file as reviews, and what is wrong with the others."""

    reviews: tuple[Review, ...]
    bad: tuple[BadLine, ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the lines of a file."""

    new: int
    known: int  # had been imported before, and stand
    replaced: int  # had been imported before, and were undone or answered otherwise since: left so


def checked(connection: sa.Connection, lines: Sequence[ReviewLine], at_us: int) -> Checked:
    """Return the reviews that lines are, given at `at_us`, and the lines that cannot be taken."""
    classes = model_classes(connection)
    found: list[Review] = []
    bad: list[BadLine] = []
    for line in lines:
        try:
            row = _judgement(connection, line)
            named = replace(line, label=_class(line.label, classes[row.weights_sha256]))
            found.append(_review(connection, named, row.weights_sha256, at_us))
        except _LineError as error:
            bad.append(BadLine(line.number, str(error)))
    return Checked(tuple(found), tuple(bad))


def import_reviews(connection: sa.Connection, reviews: Sequence[Review], writer: ReviewWriter) -> Imported:
    """Store the reviews and tell what was new; raise as `ReviewWriter.add` does.

    Many go in several transactions, so that a daemon need not wait; broken off, the same import once more
    adds the rest.
    """
    once = list({one.request_id: one for one in reviews}.values())
    added = [
        stored
        for start in range(0, len(once), AT_ONCE)
        for stored in writer.add(once[start : start + AT_ONCE])
    ]
    known = [one for one, stored in zip(once, added, strict=True) if not stored.is_new]
    standing = sum(_stands(connection, one) for one in known)
    return Imported(len(once) - len(known), standing, len(known) - standing)


class _LineError(Exception):
    """A line that does not fit what the database holds."""


def _judgement(connection: sa.Connection, line: ReviewLine) -> ResultRow:
    """Return the result that the line is about: of the model it names, else the latest."""
    judged = list(rows(connection, Query(file_id=line.file_id, sort=Sort.ID)))
    if not judged:
        raise _LineError(f"no image has the id {line.file_id}")
    _check_file(line, judged[0])
    answered = [row for row in judged if row.status is not Status.ERROR]
    if not answered:
        raise _LineError(f"image {line.file_id} could not be judged, so there is nothing to review")
    if not line.model:
        return answered[0]
    begin = line.model.split()[-1].lower()
    for row in answered:
        if line.model in (row.model, unquoted(spreadsheet_text(model_name(row)))) or (
            len(begin) >= 8 and row.weights_sha256.startswith(begin)
        ):
            return row
    raise _LineError(
        f"image {line.file_id} was not judged by {_quoted(line.model)} but by "
        + ", ".join(printable(model_name(row)) for row in answered)
    )


def _check_file(line: ReviewLine, row: ResultRow) -> None:
    """Raise _LineError if the id is another image's than the line's file: of another database."""
    here = {row.full_path, row.inbox + b"/" + row.path}
    names = {unquoted(spreadsheet_text(name_text(name))) for name in here}
    names |= {name.rpartition("/")[2] for name in names}
    if line.file and line.file not in names:
        raise _LineError(
            f"image {line.file_id} is {printable(name_text(row.full_path))} in this database, "
            f"not {_quoted(line.file)}"
        )


def _class(label: str | None, classes: Sequence[str]) -> str | None:
    """Return a class as the model calls it; raise _LineError if it has none of that name."""
    if label is None or label in classes:
        return label
    # As it was exported, or with capitals that a spreadsheet put there.
    alike = [one for one in classes if unquoted(spreadsheet_text(one)).casefold() == label.casefold()]
    if len(alike) != 1:
        raise _LineError(
            f"the model has no class {_quoted(label)}; answer {', '.join(map(printable, classes))}, "
            "other-kind or skip"
        )
    return alike[0]


def _review(connection: sa.Connection, line: ReviewLine, weights_sha256: str, at_us: int) -> Review:
    said = (int(line.answer), line.label, line.note)
    content = json.dumps((line.file_id, weights_sha256, line.reviewer, *said))
    made = Review(
        request_id=uuid.uuid5(_LINES, content).bytes,
        file_id=line.file_id,
        weights_sha256=weights_sha256,
        reviewer=line.reviewer,
        answer=line.answer,
        at_us=at_us,
        origin=line.origin,
        label=line.label,
        note=line.note,
    )
    return next(_as_stored(connection, line, made), made)


def _as_stored(connection: sa.Connection, line: ReviewLine, made: Review) -> Iterator[Review]:
    """Yield the review that a line was exported from, if it was not changed in the file."""
    if line.request_id is None:
        return
    for one in reviews_of(connection, line.file_id):
        if one.request_id == line.request_id and _says(one) == (made.reviewer, made.answer, made.label,
                                                                made.note):  # fmt: skip
            yield replace(made, request_id=one.request_id, reviewer=one.reviewer, note=one.note)


def _says(one: StoredReview) -> tuple[str, int, str | None, str]:
    """Return what a review says as it reads in a file."""
    reviewer, note = (unquoted(spreadsheet_text(text).strip()) for text in (one.reviewer, one.note))
    return reviewer, one.answer, one.label, note


def _stands(connection: sa.Connection, review: Review) -> bool:
    return any(
        one.stands for one in reviews_of(connection, review.file_id) if one.request_id == review.request_id
    )


def _quoted(text: str) -> str:
    return printable(repr(text if len(text) <= 80 else f"{text[:80]}..."))
