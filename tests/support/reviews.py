"""Reviews in tests: a ledger of scored images, people who look at them, and what they say."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace

from storage.database import open_reader
from storage.query import Query
from storage.records import Judged, Outcome, Status
from storage.reviews.answers import Review
from storage.reviews.review_figures import ReviewFigures, review_figures
from storage.reviews.review_queue import candidates
from storage.reviews.review_writer import ReviewWriter
from storage.schema import ReviewAnswer, ReviewOrigin
from tests.support.databases import Target
from tests.support.ledgers import MODEL, Store, open_store

AT_US = 1_790_000_100_000_000
SCORING = replace(MODEL, positive="tumour", threshold=0.6, uncertain_low=0.55, uncertain_high=0.65)
OTHER = "other"  # said of an image of another kind
SKIP = "skip"


def open_scored(path: Target, scores: Iterable[float | None]) -> Store:
    """Open a database of one image per score, numbered from 1; None: a rejected one, of score 0.2."""
    store = open_store(path)
    store.model_id = store.ledger.model_id(SCORING)
    judged = [judged_as(score) for score in scores]
    entries = store.add(*(b"%05d.png" % number for number in range(len(judged))))
    store.ledger.record(
        [Outcome(entry.file_id, one) for entry, one in zip(entries, judged, strict=True)], store.model_id
    )
    return store


def judged_as(score: float | None) -> Judged:
    """Return what the model concludes of a score."""
    if score is None:
        return Judged(Status.REJECTED, None, None, "unlike", score=0.2)
    status = Status.UNCERTAIN if 0.55 <= score < 0.65 else Status.OK
    return Judged(status, "tumour" if score >= 0.6 else "no_tumour", max(score, 1 - score), score=score)


def said(
    file_id: int,
    what: str,
    reviewer: str = "ada",
    origin: ReviewOrigin = ReviewOrigin.CHOSEN,
    request: bytes | None = None,
    note: str = "",
) -> Review:
    """Return an answer: a class, OTHER or SKIP."""
    answers = {OTHER: ReviewAnswer.OTHER_KIND, SKIP: ReviewAnswer.SKIPPED}
    answer = answers.get(what, ReviewAnswer.CLASS)
    label = what if answer is ReviewAnswer.CLASS else None
    request = request or uuid.uuid4().bytes
    return Review(request, file_id, MODEL.weights_sha256, reviewer, answer, AT_US, origin, label, note)


def say(store: Store, *answers: Review) -> None:
    """Store answers as a reviewer's program does."""
    ReviewWriter(str(store.path)).add(answers)


def answer_queue(
    store: Store, origins: Sequence[ReviewOrigin], wanted: int, truth: Callable[[int], str], at_once: int = 50
) -> int:
    """Answer what the queue asks for until `wanted` are answered or nothing is left; return how many."""
    done = 0
    with closing(open_reader(store.path)) as reader:
        while done < wanted:
            asked = candidates(reader, Query(), origins=origins, limit=min(at_once, wanted - done))
            if not asked:
                break
            say(store, *(said(one.row.id, truth(one.row.id), origin=one.origin) for one in asked))
            done += len(asked)
    return done


def figures_of(store: Store, query: Query | None = None) -> list[ReviewFigures]:
    """Return what is measured of every model."""
    with closing(open_reader(store.path)) as reader:
        return review_figures(reader, query or Query())
