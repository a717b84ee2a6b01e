"""Results are filtered, counted and summed up by what people said of their images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from storage.queries.results import count, rows, summary
from storage.queries.totals import totals
from storage.query import Query, ReviewFilter, Sort
from storage.records import Failed, FailureKind, Outcome, Status
from storage.reviews.review_queue import ReviewWaiting, waiting
from storage.reviews.review_rows import review_rows
from tests.support.databases import Target
from tests.support.ledgers import Store
from tests.support.reviews import AT_US, OTHER, SKIP, open_scored, said, say

pytestmark = pytest.mark.databases

ALL = Query()


@pytest.fixture
def store(database: Target) -> Iterator[Store]:
    """Ten images: 1 agreed, 2 corrected, 3 disputed, 4 of another kind, 5 rejected rightly, 6 wrongly."""
    store = open_scored(database, [0.9, 0.9, 0.9, 0.9, None, None, 0.6, 0.6, 0.9])
    [broken] = store.add(b"broken.png")
    store.ledger.record([Outcome(broken.file_id, Failed(FailureKind.PERMANENT, "no image"))], store.model_id)
    say(
        store,
        said(1, "tumour"), said(1, "tumour", "bob"), said(2, "no_tumour"), said(3, "tumour"),
        said(3, OTHER, "bob"), said(4, OTHER), said(5, OTHER), said(6, "no_tumour"), said(7, SKIP),
    )  # fmt: skip
    yield store
    store.close()


FOUND = {
    ReviewFilter.NONE: [7, 8, 9, 10],
    ReviewFilter.REVIEWED: [1, 2, 3, 4, 5, 6],
    ReviewFilter.AGREED: [1, 5],
    ReviewFilter.CORRECTED: [2, 4, 6],
    ReviewFilter.OTHER_KIND: [4, 5],
    ReviewFilter.DISPUTED: [3],
}


@pytest.mark.parametrize("wanted", ReviewFilter)
def test_filter_lets_through_what_it_says_in_pages_counts_and_sums(
    store: Store, wanted: ReviewFilter
) -> None:
    query, expected = Query(review=wanted), FOUND[wanted]

    listed = sorted(row.id for row in rows(store.connection, query))
    paged = [
        row.id
        for place in range(10)
        for row in list(rows(store.connection, replace(query, limit=10, sort=Sort.FILE)))[place : place + 1]
    ]

    assert listed == expected
    assert paged == expected
    assert count(store.connection, query) == len(expected)
    assert totals(store.connection, query)[:2] == (len(expected), len(expected))
    assert sum(row.count for row in summary(store.connection, query)) == len(expected)


def test_filters_of_reviews_go_with_others_and_with_pages(store: Store) -> None:
    query = Query(review=ReviewFilter.REVIEWED, statuses=(Status.REJECTED,), limit=1, sort=Sort.ID)

    [first] = rows(store.connection, query)
    [second] = rows(store.connection, replace(query, after=first.key(Sort.ID)))

    assert [first.id, second.id] == [6, 5]
    none_uncertain = Query(review=ReviewFilter.NONE, statuses=(Status.UNCERTAIN,))
    assert count(store.connection, none_uncertain) == 2
    assert [(row.status, row.count) for row in summary(store.connection, none_uncertain)] == [
        (Status.UNCERTAIN, 2)
    ]


def test_what_waits_is_narrowed_down_too(store: Store) -> None:
    asked = {
        ALL: (2, 6, 1),
        Query(labels=("tumour",)): (2, 4, 1),
        Query(text="00002"): (0, 1, 1),
        Query(until_us=0): (0, 0, 0),
        Query(min_score=0.85): (0, 4, 1),
    }

    assert {query: waiting(store.connection, query) for query in asked} == {
        query: ReviewWaiting(*expected) for query, expected in asked.items()
    }


def test_overwritten_image_waits_for_nobody(store: Store) -> None:
    store.ledger.add([store.version(b"00007.png", size=8_000)])

    assert waiting(store.connection, ALL).uncertain == 1


def test_reviews_are_listed_by_what_was_seen_and_when_it_was_answered(store: Store) -> None:
    asked = {
        Query(review=ReviewFilter.DISPUTED): [3, 3],
        Query(statuses=(Status.REJECTED,)): [5, 6],
        Query(since_us=AT_US, limit=2, reverse=True): [7, 6],
        Query(until_us=AT_US): [],
        Query(text="00001"): [2],
        Query(model="zz"): [],
    }

    assert {query: [row.file_id for row in review_rows(store.connection, query)] for query in asked} == asked
