"""ReviewDesk: hands out images that a person should look at, and takes what is said of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import sqlalchemy as sa

from daemon.web.pages.render import ModelBook
from daemon.web.reviewing.candidate_words import Told, candidate_words
from daemon.web.reviewing.leases import Leases
from daemon.web.reviewing.review_messages import read_answer, read_undo
from storage.queries.results import ResultRow, rows
from storage.query import Query, Sort
from storage.records import Status
from storage.reviews.review_queue import ORIGINS, ReviewCandidate, candidates
from storage.reviews.review_writer import Added, ReviewWriter
from storage.schema import ReviewOrigin

# The names of the queues in addresses.
QUEUES: dict[str, Sequence[ReviewOrigin]] = {
    "all": ORIGINS,
    "uncertain": (ReviewOrigin.UNCERTAIN,),
    "near": (ReviewOrigin.NEAR,),
    "random": (ReviewOrigin.RANDOM,),
}


class ReviewDesk:
    """One database's reviews, for any number of people at once; may be asked from any thread."""

    def __init__(self, database: str, book: ModelBook, leases: Leases | None = None) -> None:
        self._writer = ReviewWriter(database)
        self._book = book
        self._leases = leases or Leases()

    def hand_out(
        self,
        connection: sa.Connection,
        reviewer: str,
        query: Query,
        queue: str,
        limit: int,
        without: Collection[int] = (),
    ) -> list[Told]:
        """Return what comes next for a reviewer, who has `without` already; leased from now on."""
        with self._leases.lock:
            taken = {*self._leases.of_others(reviewer), *without}
            found = candidates(connection, query, origins=QUEUES[queue], limit=limit, without=taken)
            self._leases.take(reviewer, (one.row.id for one in found))
        return [candidate_words(connection, one, self._book) for one in found]

    def one(self, connection: sa.Connection, reviewer: str, file_id: int, model: str | None) -> list[Told]:
        """Return one image that somebody opened by hand, or nothing if no model has judged it."""
        query = Query(file_id=file_id, model=model, sort=Sort.ID)
        judged: Iterator[ResultRow] = (
            row for row in rows(connection, query) if row.status is not Status.ERROR
        )
        row = next(judged, None)
        if row is None:
            return []
        self._leases.take(reviewer, [file_id])
        chosen = ReviewCandidate(row, ReviewOrigin.CHOSEN)
        return [candidate_words(connection, chosen, self._book)]

    def add(self, body: bytes, at_us: int) -> Added:
        """Store what a browser sent; raises UsageError, DatabaseError."""
        review = read_answer(body, at_us)
        added = self._writer.add([review])[0]
        self._leases.end(review.file_id)
        return added

    def withdraw(self, body: bytes, at_us: int) -> bool:
        """Take an answer back as a browser asks; False if it does not stand any more."""
        sent = read_undo(body)
        return self._writer.withdraw(sent.reviewer, sent.request.bytes, at_us)
