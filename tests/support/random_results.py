"""Databases of random results: two inboxes, two models, folders in folders, superseded versions, reviews."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from storage.database import open_reader
from storage.queries.results import ResultRow, rows
from storage.query import Query, ReviewFilter
from storage.records import Failed, FailureKind, Judged, Status
from storage.reviews.answers import Review
from storage.reviews.review_writer import ReviewWriter
from storage.schema import ReviewAnswer, ReviewOrigin
from tests.support.databases import Target
from tests.support.stored_results import MODEL, Store

FIRST = replace(MODEL, positive="yes", threshold=0.5, uncertain_low=0.4, uncertain_high=0.6)
SECOND = replace(FIRST, weights_sha256="ef" * 32, name="other-mri", threshold=0.3)
_FOLDERS = (b"", b"a", b"a/b", b"a-b", b"a/b/c", b"B", b"\xff\xfe", b"z 1")
_REASONS = ("the image is truncated", "not an image: Zero bytes", "100% wrong_here")


def random_database(folder: Path, seed: int, size: int = 90, *, database: Target | None = None) -> Target:
    """Write a database from a seed, always the same, at `database` or into a file of the folder."""
    chance = random.Random(seed)
    database = database or folder / "x.db"
    stores = [Store(database, folder / name) for name in ("one", "two")]
    for store in stores:
        names = [_name(chance) for _ in range(size // 2)]
        # Some come twice: the version of before is superseded.
        store.put([(name, _result(chance)) for name in [*names, *chance.sample(names, 5)]], model=FIRST)
    stores[0].judge_again([_judged(chance) for _ in range(size // 4)], SECOND)
    _review(database, chance)
    return database


def every_row(connection: sa.Connection) -> list[ResultRow]:
    """Return all results, newest first."""
    return list(rows(connection, Query()))


def _name(chance: random.Random) -> bytes:
    letters = (b"IM", b"im", b"Scan_", b"%", b"\xc3\xa9", b"\xff", b"-0")
    name = b"".join(chance.choices(letters, k=chance.randint(1, 3))) + b"%d.png" % chance.randint(0, 999)
    folder = chance.choice(_FOLDERS)
    return folder + b"/" + name if folder else name


def _result(chance: random.Random) -> Judged | Failed:
    if chance.random() < 0.15:
        return Failed(FailureKind.PERMANENT, chance.choice(_REASONS))
    return _judged(chance)


def _judged(chance: random.Random) -> Judged:
    score = chance.choice((0.1, 0.4, 0.5, 0.5, 0.75, 0.99))
    if chance.random() < 0.15:
        return Judged(Status.REJECTED, None, None, "unlike the training images", score=score)
    label = "yes" if score >= 0.5 else "no"
    status = Status.UNCERTAIN if 0.4 <= score < 0.6 else Status.OK
    return Judged(status, label, max(score, 1 - score), score=score)


def _review(database: Target, chance: random.Random) -> None:
    with_label = [row for row in _read(database) if row.label and row.model == FIRST.name]
    writer = ReviewWriter(str(database))
    for number, row in enumerate(chance.sample(with_label, 20)):
        writer.add(
            [
                Review(
                    request_id=number.to_bytes(16, "big"), file_id=row.id, weights_sha256=row.weights_sha256,
                    reviewer=f"reader {number % 2}", answer=ReviewAnswer.CLASS, at_us=row.completed_us + 1,
                    origin=ReviewOrigin.UNCERTAIN, label=chance.choice(("yes", "no")),
                )
            ]
        )  # fmt: skip


def _read(database: Target) -> Iterator[ResultRow]:
    with open_reader(database) as connection:
        yield from every_row(connection)


def reviewed(connection: sa.Connection, which: ReviewFilter) -> set[int]:
    """Return the results that the command's own filter lets through."""
    return {row.result_id for row in rows(connection, Query(review=which))}
