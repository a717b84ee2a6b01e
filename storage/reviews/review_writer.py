"""Write reviews in short transactions beside the daemon.

    request -> read what the model had said -> one transaction: withdraw, add, let join the sample -> flush

All that takes time (opening, reading, waiting for the disk) is done without the write lock; it is held for
as long as a few small statements take. A request is stored once, however often it comes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from config.database_url import is_server_url
from config.errors import UsageError
from config.files import flush
from config.text import printable
from storage.database import BUSY_SECONDS, database_path, open_beside, reading, writing
from storage.database_errors import DatabaseUnavailableError
from storage.random_order import order_key
from storage.reviews.answers import LONGEST_NOTE, LONGEST_REVIEWER, REQUEST_BYTES, Review
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
from storage.statements import Prepared, PreparedIn
from storage.upsert import insert_of

# So many reviews are written in less than a tenth of a second.
AT_ONCE = 200
_LARGEST_ID = 2**63 - 1


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


class _Ready(NamedTuple):
    """A review with what belongs into its row."""

    review: Review
    shown: _Shown


class _Known(NamedTuple):
    """A request that is stored."""

    id: int
    file_id: int
    reviewer: str
    answer: int
    label: str | None


class _Joining(NamedTuple):
    """What counts as drawn at random once the reviews at hand are stored."""

    end: int  # key in the random order; -1: nothing
    review_ids: list[int]


class _Batch(NamedTuple):
    """Reviews of one transaction, with all that is known before the lock is taken."""

    ready: list[_Ready]
    joins: list[_Joining]
    new_names: list[tuple[Prepared, list[tuple[str]]]]


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

        The daemon waits as long as this writes, so hand in thousands by some hundred (`AT_ONCE`).
        Raises UsageError for a class that the model has not, a file that it has not judged, a note or a
        name of nobody or too long, and a request that was made before for another answer.
        """
        for one in reviews:
            _check(one)
        requests = [one.request_id for one in reviews]
        with closing(self._open()) as connection:
            batch = _read_ahead(connection, reviews)
            with writing(connection):
                before = _store(connection, batch)
            with reading(connection):
                stored = _known(connection, requests)
            self._flush()
        return [
            Added(stored[request].id, is_new=request not in before and request not in requests[:place])
            for place, request in enumerate(requests)
        ]

    def withdraw(self, reviewer: str, request_id: bytes, at_us: int) -> bool:
        """Take an answer back; False if it is not the reviewer's, or does not stand any more."""
        _check_name(reviewer)
        with closing(self._open()) as connection:
            with reading(connection):
                found = _STANDING.all(connection, (request_id, reviewer))
            if not found:
                return False
            with writing(connection):
                # Only the review that was found standing: another may be faster, but none brings it back.
                stands = bool(_STANDING.all(connection, (request_id, reviewer)))
                _TAKE_BACK.many(connection, [(at_us, request_id)])
            self._flush()
        return stands

    def _open(self) -> sa.Connection:
        return open_beside(self._database, busy_seconds=self._busy_seconds)

    def _flush(self) -> None:
        """Wait until what was committed is on the disk; without the lock, so that nobody else waits."""
        if is_server_url(self._database):  # a server waits for its disk before it says that it committed
            return
        path = Path(os.path.realpath(database_path(self._database)))  # where SQLite puts its log
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
    _check_name(one.reviewer)
    if len(one.request_id) != REQUEST_BYTES:
        raise UsageError(
            f"a request is named by {REQUEST_BYTES} bytes, not {len(one.request_id)}",
            hint="make a UUID for each answer",
        )
    if len(one.note) > LONGEST_NOTE:
        raise UsageError(f"the note has {len(one.note):,} characters", hint=f"write at most {LONGEST_NOTE:,}")
    if not all(map(_is_text, (one.note, one.label or "", one.weights_sha256))):
        raise UsageError("the answer holds characters that are no text", hint="send UTF-8")
    if not 0 < one.file_id <= _LARGEST_ID:
        raise UsageError(f"there is no file {one.file_id}", hint="see what there is: bt-daemon results")
    if (one.label is not None) is not (one.answer is ReviewAnswer.CLASS):
        raise UsageError(
            "a class is said with the answer `class`, and with no other",
            hint="name the class, or leave it out",
        )


def _check_name(name: str) -> None:
    """Raise UsageError for a name that cannot be shown as it is, or is none."""
    if name.strip() and len(name) <= LONGEST_REVIEWER and name == name.strip() and printable(name) == name:
        return
    fact = "a review needs the name of who gives it"
    if len(name) > LONGEST_REVIEWER:
        fact = f"the reviewer's name has {len(name):,} characters"
    elif name.strip():
        fact = (
            f"the reviewer's name {printable(name)!r} has blanks around it or characters that cannot be shown"
        )
    raise UsageError(fact, hint=f"give 1 to {LONGEST_REVIEWER} characters")


def _is_text(text: str) -> bool:
    """Whether a text can be stored: JSON may bring halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _ready(connection: sa.Connection, one: Review) -> _Ready:
    """Add what the model says of the file; raise UsageError if it says nothing, or has not that class."""
    rows = _JUDGED.all(connection, (one.file_id, one.weights_sha256))
    shown = printable(one.weights_sha256[:12])
    if not rows:
        raise UsageError(
            f"the model {shown} has not judged file {one.file_id}", hint="see what has: bt-daemon show ID"
        )
    model_id, label_id, status, stored_classes = rows[0]
    classes = json.loads(stored_classes)
    if one.label is not None and one.label not in classes:
        raise UsageError(
            f"the model {shown} has no class {printable(one.label)!r}",
            hint=f"its classes are {', '.join(map(printable, classes))}",
        )
    return _Ready(one, _Shown(model_id, label_id, status))


def _joins(connection: sa.Connection, reviews: Sequence[Review]) -> list[_Joining]:
    """Return, by model, what becomes part of the sample with these reviews; only a random one adds to it."""
    joins = []
    for weights in {one.weights_sha256 for one in reviews if one.origin is ReviewOrigin.RANDOM}:
        drawn = [
            one.file_id
            for one in reviews
            if one.origin is ReviewOrigin.RANDOM and one.weights_sha256 == weights
        ]
        end = sample_end(connection, weights, {one.file_id for one in reviews}, drawn)
        joins.append(_Joining(end, joining(connection, weights, end)))
    return joins


def _new_names(
    connection: sa.Connection, reviews: Sequence[Review]
) -> list[tuple[Prepared, list[tuple[str]]]]:
    """Return what is to be stored of names that no row has yet."""
    names = (
        (reviewer, _ADD_REVIEWER, {one.reviewer for one in reviews}),
        (label, _ADD_LABEL, {one.label for one in reviews if one.label is not None}),
    )
    found = []
    for table, statement, wanted in names:
        known = set(connection.execute(sa.select(table.c.name).where(table.c.name.in_(wanted))).scalars())
        found.append((statement, [(name,) for name in sorted(wanted - known)]))
    return found


def _read_ahead(connection: sa.Connection, reviews: Sequence[Review]) -> _Batch:
    """Return what takes reading, and compile what is run under the lock."""
    with reading(connection):
        batch = _Batch(
            ready=[_ready(connection, one) for one in reviews],
            joins=_joins(connection, reviews),
            new_names=_new_names(connection, reviews),
        )
        _known(connection, [one.request_id for one in reviews])
        for statement in _UNDER_LOCK:
            statement.compile(connection)
    return batch


def _store(connection: sa.Connection, batch: _Batch) -> dict[bytes, _Known]:
    """Write reviews in the caller's transaction, for which others wait; return the requests known before."""
    for statement, names in batch.new_names:
        statement.many(connection, names)
    known = _known(connection, [one.request_id for one, _ in batch.ready])
    end = max((join.end for join in batch.joins), default=-1)
    stored = dict(known)
    for one, shown in batch.ready:
        if one.request_id in stored:
            _check_same(one, stored[one.request_id])
            continue
        _WITHDRAW.many(connection, [(one.at_us, one.file_id, one.reviewer)])
        _INSERT.many(connection, [_values(one, shown, end)])
        stored[one.request_id] = _Known(0, one.file_id, one.reviewer, int(one.answer), one.label)
    _DRAWN.many(connection, [(number,) for join in batch.joins for number in join.review_ids])
    return known


def _known(connection: sa.Connection, requests: Sequence[bytes]) -> dict[bytes, _Known]:
    return {row[0]: _Known(*row[1:]) for row in _REQUESTED.all(connection, (), requests)}


def _check_same(one: Review, known: _Known) -> None:
    if known[1:] != (one.file_id, one.reviewer, int(one.answer), one.label):
        raise UsageError(
            "this request was made before, for another answer", hint="make a new UUID for each answer"
        )


def _values(one: Review, shown: _Shown, end: int) -> tuple[Any, ...]:
    """Return what `_INSERT` takes."""
    drawn = int(order_key(one.file_id) <= end)
    said = (int(one.answer), one.label, shown.label_id, shown.status, int(one.origin))
    about = (one.request_id, one.file_id, shown.model_id, one.reviewer)
    return (*about, *said, drawn, one.file_id, one.note or None, one.at_us)


# The newest result of a model's weights, whatever engine they ran on.
_JUDGED = Prepared(
    sa.select(result.c.model_id, result.c.label_id, result.c.status, model.c.classes)
    .select_from(result.join(model))
    .where(
        result.c.file_id == sa.bindparam("file"),
        model.c.weights_sha256 == sa.bindparam("weights"),
        result.c.status != sa.literal_column(str(ERROR_CODE)),
    )
    .order_by(result.c.id.desc()),
    ["file", "weights"],
)
_REQUESTED = PreparedIn(
    lambda requests: (
        sa.select(
            review.c.request_id, review.c.id, review.c.file_id, reviewer.c.name, review.c.answer, label.c.name
        )
        .select_from(review.join(reviewer).outerjoin(label, label.c.id == review.c.label_id))
        .where(review.c.request_id.in_(requests))
    ),
    [],
)
_ADD_REVIEWER = Prepared(lambda dialect: insert_of(reviewer, dialect).on_conflict_do_nothing(), ["name"])
_ADD_LABEL = Prepared(lambda dialect: insert_of(label, dialect).on_conflict_do_nothing(), ["name"])


def _number_of(table: sa.Table, parameter: str) -> sa.ScalarSelect[int]:
    return sa.select(table.c.id).where(table.c.name == sa.bindparam(parameter)).scalar_subquery()


_WITHDRAW = Prepared(
    review.update()
    .where(
        review.c.file_id == sa.bindparam("file"), review.c.reviewer_id == _number_of(reviewer, "by"), STANDS
    )
    .values(withdrawn_us=sa.bindparam("at")),
    ["at", "file", "by"],
)
# An image that was drawn once stays so, whoever answers it again and whatever was taken back.
_earlier = review.alias("earlier")
_was_drawn = sa.exists().where(
    _earlier.c.file_id == sa.bindparam("same_file"), _earlier.c.in_sample == sa.literal_column("1")
)
_one, _none = sa.literal_column("1", sa.Integer), sa.literal_column("0", sa.Integer)
_counts_as_drawn = (sa.bindparam("drawn", type_=sa.Integer) == _one) | _was_drawn
_INSERTED = "request file seen_model by said said_label shown_label shown why drawn same_file remark at"
_INSERT = Prepared(
    review.insert().values(
        request_id=sa.bindparam("request"),
        file_id=sa.bindparam("file"),
        model_id=sa.bindparam("seen_model"),
        reviewer_id=_number_of(reviewer, "by"),
        answer=sa.bindparam("said"),
        label_id=_number_of(label, "said_label"),
        shown_label_id=sa.bindparam("shown_label"),
        shown_status=sa.bindparam("shown"),
        origin=sa.bindparam("why"),
        in_sample=sa.case((_counts_as_drawn, _one), else_=_none),
        note=sa.bindparam("remark"),
        at_us=sa.bindparam("at"),
    ),
    _INSERTED.split(),
)
_DRAWN = Prepared(
    review.update().where(review.c.id == sa.bindparam("number")).values(in_sample=sa.literal_column("1")),
    ["number"],
)
_UNDER_LOCK = (_ADD_REVIEWER, _ADD_LABEL, _WITHDRAW, _INSERT, _DRAWN)
_STANDING = Prepared(
    sa.select(review.c.id)
    .select_from(review.join(reviewer))
    .where(review.c.request_id == sa.bindparam("request"), reviewer.c.name == sa.bindparam("by"), STANDS),
    ["request", "by"],
)
_TAKE_BACK = Prepared(
    review.update()
    .where(review.c.request_id == sa.bindparam("request"), STANDS)
    .values(withdrawn_us=sa.bindparam("at")),
    ["at", "request"],
)
