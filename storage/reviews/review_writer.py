"""Write reviews in short transactions beside the daemon.

    request -> read what the model had said -> one transaction: withdraw, add, let join the sample -> flush

All that takes time (opening, reading, waiting for the disk) is done without the write lock; it is held for
as long as a few small statements take. A request is stored once, however often it comes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from config.errors import UsageError
from config.files import flush
from config.text import printable
from storage.database import BUSY_SECONDS, database_path, open_beside, reading, writing
from storage.database_errors import DatabaseUnavailableError
from storage.reviews.answers import LONGEST_NOTE, LONGEST_REVIEWER, REQUEST_BYTES, Review
from storage.reviews.random_order import order_key
from storage.reviews.sample import joining, sample_end
from storage.schema import (
    ERROR_CODE,
    STANDS,
    ReviewAnswer,
    ReviewOrigin,
    label,
    model,
    result,
    review,
    reviewer,
)


@dataclass(frozen=True, slots=True)
class Added:
    """A review that is in the database now."""

    review_id: int
    is_new: bool  # False: its request had been made before


class _Shown(NamedTuple):
    """What the model had said of the file when the review was stored."""

    model_id: int
    label_id: int | None
    status: int
    classes: tuple[str, ...]


class _Joining(NamedTuple):
    """What counts as drawn at random once the reviews at hand are stored."""

    end: int  # key in the random order; -1: nothing
    review_ids: list[int]


class ReviewWriter:
    """Adds reviews and takes them back; for any number of threads and processes at once.

    It holds nothing open between calls. Raises DatabaseError as `open_beside` and `writing` do.
    """

    def __init__(self, database: str, *, busy_seconds: float = BUSY_SECONDS) -> None:
        """`busy_seconds` is how long a call waits while others write."""
        self._database = database
        self._busy_seconds = busy_seconds

    def add(self, reviews: Sequence[Review]) -> list[Added]:
        """Store all of them, or none after any exception; a reviewer's earlier answer is withdrawn.

        Raises UsageError for a class that the model has not, a file that it has not judged, a note or a
        name of nobody or too long, and a request that was made before for another answer.
        """
        for one in reviews:
            _check(one)
        with closing(open_beside(self._database, busy_seconds=self._busy_seconds)) as connection:
            with reading(connection):
                shown = [_shown(connection, one) for one in reviews]
                joins = _joins(connection, reviews)
            with writing(connection):
                added = [_add(connection, one, seen, joins) for one, seen in zip(reviews, shown, strict=True)]
                for join in joins.values():
                    _count_as_drawn(connection, join.review_ids)
            self._flush()
        return added

    def withdraw(self, reviewer: str, request_id: bytes, at_us: int) -> bool:
        """Take an answer back; False if it is not the reviewer's, or does not stand any more."""
        statement = (
            review.update()
            .where(review.c.request_id == request_id, STANDS, review.c.reviewer_id == _reviewer_id(reviewer))
            .values(withdrawn_us=at_us)
        )
        with closing(open_beside(self._database, busy_seconds=self._busy_seconds)) as connection:
            with writing(connection):
                withdrawn = connection.execute(statement).rowcount > 0
            if withdrawn:
                self._flush()
        return withdrawn

    def _flush(self) -> None:
        """Wait until what was committed is on the disk; without the lock, so that nobody else waits."""
        path = database_path(self._database)
        try:
            flush(path.with_name(f"{path.name}-wal"))
        except FileNotFoundError:  # the daemon ended meanwhile: all of it is in the database, and flushed
            return
        except OSError as error:
            raise DatabaseUnavailableError(
                f"the database {printable(str(path))} could not be flushed ({error.strerror})",
                hint="check the disk; the answer may be stored, sending it again does no harm",
            ) from error


def _check(one: Review) -> None:
    """Raise UsageError for what no database need be asked about."""
    if len(one.request_id) != REQUEST_BYTES:
        raise UsageError(
            f"a request is named by {REQUEST_BYTES} bytes, not {len(one.request_id)}",
            hint="make a UUID for each answer",
        )
    if not one.reviewer.strip() or len(one.reviewer) > LONGEST_REVIEWER:
        raise UsageError(
            "a review needs the name of who gives it"
            if not one.reviewer.strip()
            else f"the reviewer's name has {len(one.reviewer):,} characters",
            hint=f"give 1 to {LONGEST_REVIEWER} characters",
        )
    if len(one.note) > LONGEST_NOTE:
        raise UsageError(f"the note has {len(one.note):,} characters", hint=f"write at most {LONGEST_NOTE:,}")
    if (one.label is not None) is not (one.answer is ReviewAnswer.CLASS):
        raise UsageError(
            "a class is said with the answer `class`, and with no other",
            hint="name the class, or leave it out",
        )


def _shown(connection: sa.Connection, one: Review) -> _Shown:
    """Return what the model says of the file; raise UsageError if it says nothing, or has not that class."""
    query = (
        sa.select(result.c.model_id, result.c.label_id, result.c.status, model.c.classes)
        .select_from(result.join(model))
        .where(result.c.file_id == one.file_id, model.c.weights_sha256 == one.weights_sha256)
        .where(result.c.status != ERROR_CODE)
        .order_by(result.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UsageError(
            f"the model {printable(one.weights_sha256[:12])} has not judged file {one.file_id}",
            hint="see what has: bt-daemon show ID",
        )
    shown = _Shown(row.model_id, row.label_id, row.status, tuple(json.loads(row.classes)))
    if one.label is not None and one.label not in shown.classes:
        raise UsageError(
            f"the model {printable(one.weights_sha256[:12])} has no class {printable(one.label)!r}",
            hint=f"its classes are {', '.join(map(printable, shown.classes))}",
        )
    return shown


def _joins(connection: sa.Connection, reviews: Sequence[Review]) -> dict[str, _Joining]:
    """Return, by model, what becomes part of the sample with these reviews; only a random one adds to it."""
    joins = {}
    for weights in {one.weights_sha256 for one in reviews if one.origin is ReviewOrigin.RANDOM}:
        drawn = [
            one.file_id
            for one in reviews
            if one.origin is ReviewOrigin.RANDOM and one.weights_sha256 == weights
        ]
        end = sample_end(connection, weights, {one.file_id for one in reviews}, drawn)
        joins[weights] = _Joining(end, joining(connection, weights, end))
    return joins


def _add(connection: sa.Connection, one: Review, shown: _Shown, joins: dict[str, _Joining]) -> Added:
    known = connection.execute(_KNOWN, {"request": one.request_id}).one_or_none()
    if known is not None:
        if (known.file_id, known.name, known.answer, known.label) != _identity(one):
            raise UsageError(
                "this request was made before, for another answer", hint="make a new UUID for each answer"
            )
        return Added(known.id, is_new=False)
    reviewer_id = _number(connection, reviewer, one.reviewer)
    earlier = review.update().where(
        review.c.file_id == one.file_id, review.c.reviewer_id == reviewer_id, STANDS
    )
    connection.execute(earlier.values(withdrawn_us=one.at_us))
    end = max((join.end for join in joins.values()), default=-1)
    was_drawn = connection.execute(_WAS_DRAWN, {"file": one.file_id}).scalar_one()
    values: dict[str, Any] = {
        "request_id": one.request_id,
        "file_id": one.file_id,
        "model_id": shown.model_id,
        "reviewer_id": reviewer_id,
        "answer": int(one.answer),
        "label_id": None if one.label is None else _number(connection, label, one.label),
        "shown_label_id": shown.label_id,
        "shown_status": shown.status,
        "origin": int(one.origin),
        "in_sample": int(was_drawn or order_key(one.file_id) <= end),
        "note": one.note or None,
        "at_us": one.at_us,
    }
    made = connection.execute(review.insert().values(values))
    assert made.inserted_primary_key is not None
    return Added(int(made.inserted_primary_key[0]), is_new=True)


def _identity(one: Review) -> tuple[int, str, int, str | None]:
    return one.file_id, one.reviewer, int(one.answer), one.label


def _number(connection: sa.Connection, table: sa.Table, name: str) -> int:
    """Return the number of a name, made if need be."""
    query = sa.select(table.c.id).where(table.c.name == name)
    found = connection.execute(query).scalar_one_or_none()
    if found is None:
        made = connection.execute(table.insert().values(name=name))
        assert made.inserted_primary_key is not None
        found = made.inserted_primary_key[0]
    return int(found)


def _reviewer_id(name: str) -> sa.ScalarSelect[int]:
    return sa.select(reviewer.c.id).where(reviewer.c.name == name).scalar_subquery()


def _count_as_drawn(connection: sa.Connection, review_ids: Sequence[int]) -> None:
    if review_ids:
        connection.execute(_DRAWN, [{"number": number} for number in review_ids])


_KNOWN = (
    sa.select(review.c.id, review.c.file_id, reviewer.c.name, review.c.answer, label.c.name.label("label"))
    .select_from(review.join(reviewer).outerjoin(label, label.c.id == review.c.label_id))
    .where(review.c.request_id == sa.bindparam("request"))
)
# An image that was drawn once stays so, whoever answers it again and whatever was taken back.
_WAS_DRAWN = sa.select(sa.exists().where(review.c.file_id == sa.bindparam("file"), review.c.in_sample == 1))
_DRAWN = review.update().where(review.c.id == sa.bindparam("number")).values(in_sample=1)
