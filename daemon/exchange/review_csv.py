"""CSV of reviews: written for a person or a script to fill in, and read back line by line.

RFC 4180 in UTF-8. What a spreadsheet would compute gets a quote, which reading takes away again; the
semicolons and tabs that spreadsheets write in some countries are understood.
"""

from __future__ import annotations

import csv
import io
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import TextIO

from config.errors import UsageError
from config.text import printable
from daemon.output.cells import unquoted
from daemon.output.columns import Column, Kind
from daemon.output.delimited import write_delimited
from daemon.output.result_columns import model_name
from daemon.output.review_columns import REVIEWS
from daemon.output.review_words import ANSWER_WORDS, ORIGIN_WORDS, full_path, reviewed_model
from storage.reviews.answers import LONGEST_NOTE, LONGEST_REVIEWER, StoredReview
from storage.reviews.review_queue import ReviewCandidate
from storage.schema import ReviewAnswer, ReviewOrigin

_HEAD = ("id", "file", "model", "network_class", "network_status", "score", "origin")
_SAID = ("answer", "class", "note", "reviewer")
MOST_BYTES = 64 << 20  # of a file to read: some 400,000 lines
_ID = re.compile(r"[0-9]{1,18}")
_ORIGINS = {word: origin for origin, word in ORIGIN_WORDS.items()}
_WORDS = {word: answer for answer, word in ANSWER_WORDS.items()}


@dataclass(frozen=True, slots=True)
class ReviewLine:
    """One line that says something, with what is right or wrong about it as far as no database is asked."""

    number: int  # of its first line in the file
    file_id: int
    file: str  # as the file calls it, "" if it does not say
    model: str  # likewise
    answer: ReviewAnswer
    label: str | None
    note: str
    reviewer: str
    origin: ReviewOrigin
    request_id: bytes | None  # of the review that the line was exported from


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be taken, and why."""

    number: int
    why: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.why}"


@dataclass(frozen=True, slots=True)
class ReviewFile:
    """A file of reviews as it was read."""

    lines: tuple[ReviewLine, ...]
    bad: tuple[BadLine, ...]
    unanswered: int


def write_queue(found: Iterable[ReviewCandidate], zone: tzinfo, stream: TextIO) -> int:
    """Write what waits for a person, with empty cells for the answers; return the number of lines."""
    return write_delimited(found, _QUEUE, zone, stream)


def write_reviews(found: Iterable[StoredReview], zone: tzinfo, stream: TextIO) -> int:
    """Write reviews as they are stored; the same file read back adds nothing. Return the number of lines."""
    return write_delimited(found, _DONE, zone, stream)


def read_review_lines(data: bytes, reviewer: str) -> ReviewFile:
    """Return the lines of a CSV; whoever a line does not name is `reviewer`.

    Raises UsageError for a file that is no such CSV as a whole. Columns are found by their names: `id` and
    `answer` or `class` are needed, those not known are passed over.
    """
    rows = _Rows(_decoded(data))
    lines: list[ReviewLine] = []
    bad: list[BadLine] = []
    unanswered = 0
    for number, cells in rows:
        try:
            line = _line(number, cells, reviewer)
        except _CellError as error:
            bad.append(BadLine(number, str(error)))
            continue
        unanswered += line is None
        lines += [] if line is None else [line]
    bad += _contradictions(lines)
    if rows.broken:
        bad.append(rows.broken)
    return ReviewFile(tuple(lines), tuple(sorted(bad, key=lambda one: one.number)), unanswered)


class _CellError(Exception):
    """A cell that cannot be meant as it stands."""


class _Rows:
    """Yields (number of the first line, cells by column) of a CSV; `broken` tells where it cannot be read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.broken: BadLine | None = None

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, str]]]:
        reader = csv.reader(
            io.StringIO(self._text, newline=""), delimiter=_delimiter(self._text), strict=True
        )
        number = 1
        try:
            names = [name.strip().lower() for name in next(reader, [])]
            _check_columns(names)
            while True:
                number = reader.line_num + 1
                cells = next(reader, None)
                if cells is None:
                    return
                if any(cell.strip() for cell in cells):
                    yield number, dict(zip(names, cells, strict=False))
        except csv.Error as error:
            self.broken = BadLine(number, f"cannot be read as CSV: {error}")


def _decoded(data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise UsageError(f"the file has {len(data):,} bytes, too many", hint="import it in parts")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"line {number} is not UTF-8", hint='save it as "CSV UTF-8" in the spreadsheet'
        ) from None


def _delimiter(text: str) -> str:
    first = text.split("\n", 1)[0]
    return max(",;\t", key=first.count)


def _check_columns(names: Sequence[str]) -> None:
    wanted = f"its first line must name the columns id and answer (of {', '.join((*_HEAD, *_SAID))})"
    if "id" not in names or not {"answer", "class"} & set(names):
        raise UsageError("the file is no CSV of reviews", hint=wanted)
    known = {*_HEAD, *_SAID}
    if twice := sorted(name for name in set(names) & known if names.count(name) > 1):
        raise UsageError(f"the column {printable(twice[0])} is there twice", hint=wanted)


def _line(number: int, cells: Mapping[str, str], reviewer: str) -> ReviewLine | None:
    """Return what a line says; None if it says nothing yet. Raises _CellError."""
    said, named = _text(cells, "answer"), _text(cells, "class")
    if not said and not named:
        return None
    answer, label = _answer(said, named)
    who = _text(cells, "reviewer") or reviewer
    if len(who) > LONGEST_REVIEWER:
        raise _CellError(f"the reviewer's name has {len(who):,} characters, at most {LONGEST_REVIEWER} go")
    if not who.strip() or printable(who) != who:
        raise _CellError(f"the reviewer's name {_shown(who)} is none that can be shown")
    note = _text(cells, "note")
    if len(note) > LONGEST_NOTE:
        raise _CellError(f"the note has {len(note):,} characters, at most {LONGEST_NOTE:,} go")
    file_id = cells["id"].strip()
    if not _ID.fullmatch(file_id):
        raise _CellError(f"the id {_shown(file_id)} is no number")
    origin = _text(cells, "origin").lower()
    return ReviewLine(
        number=number,
        file_id=int(file_id),
        file=_text(cells, "file"),
        model=_text(cells, "model"),
        answer=answer,
        label=label,
        note=note,
        reviewer=who,
        origin=_ORIGINS.get(origin, ReviewOrigin.IMPORTED),
        request_id=_request(_text(cells, "request")),
    )


def _answer(said: str, named: str) -> tuple[ReviewAnswer, str | None]:
    """Return the answer and the class: `answer` holds a class, other-kind, skip, or class beside `class`."""
    word = _WORDS.get(said.lower(), ReviewAnswer.CLASS)
    if word is not ReviewAnswer.CLASS:
        if named:
            raise _CellError(f"{_shown(said)} in answer and {_shown(named)} in class exclude each other")
        return word, None
    if said.lower() != ANSWER_WORDS[ReviewAnswer.CLASS]:
        if said and named and said != named:
            raise _CellError(f"{_shown(said)} in answer and {_shown(named)} in class exclude each other")
        return word, said or named
    if not named:
        raise _CellError("answer says class, and the column class does not say which")
    return word, named


def _request(text: str) -> bytes | None:
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        return None


def _text(cells: Mapping[str, str], name: str) -> str:
    return unquoted(cells.get(name, "").strip())


def _contradictions(lines: Iterable[ReviewLine]) -> Iterator[BadLine]:
    """Yield the lines in which a reviewer says something else of an image than in a line before."""
    first: dict[tuple[int, str], ReviewLine] = {}
    for line in lines:
        before = first.setdefault((line.file_id, line.reviewer), line)
        if (before.answer, before.label, before.note) != (line.answer, line.label, line.note):
            yield BadLine(
                line.number, f"says something else of image {line.file_id} than line {before.number}"
            )


def _shown(text: str) -> str:
    return printable(repr(text if len(text) <= 40 else f"{text[:40]}..."))


_QUEUE = (
    Column("id", Kind.INTEGER, lambda one: one.row.id),
    Column("file", Kind.NAME, lambda one: one.row.full_path),
    Column("model", Kind.TEXT, lambda one: model_name(one.row)),
    Column("network_class", Kind.TEXT, lambda one: one.row.label),
    Column("network_status", Kind.TEXT, lambda one: one.row.status.value),
    Column("score", Kind.CONFIDENCE, lambda one: one.row.score),
    Column("origin", Kind.TEXT, lambda one: ORIGIN_WORDS[one.origin]),
    *(Column(name, Kind.TEXT, lambda _: None) for name in _SAID),
)
_DONE = (
    Column("id", Kind.INTEGER, lambda one: one.file_id),
    Column("file", Kind.NAME, full_path),
    Column("model", Kind.TEXT, reviewed_model),
    Column("network_class", Kind.TEXT, lambda one: one.shown_label),
    Column("network_status", Kind.TEXT, lambda one: one.shown_status and one.shown_status.value),
    Column("origin", Kind.TEXT, lambda one: ORIGIN_WORDS[one.origin]),
    Column("answer", Kind.TEXT, lambda one: ANSWER_WORDS[one.answer]),
    Column("class", Kind.TEXT, lambda one: one.label),
    Column("note", Kind.TEXT, lambda one: one.note),
    Column("reviewer", Kind.TEXT, lambda one: one.reviewer),
    REVIEWS["time"],
    REVIEWS["request"],
)
