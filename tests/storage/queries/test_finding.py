"""Pages, counts, facets and streams of the results page, against every row looked at one by one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.web.finding.search import search
from storage.database import open_reader, reading
from storage.queries import budget, result_counts, result_page, text_match
from storage.queries.budget import Budget
from storage.queries.facets import Facet
from storage.queries.result_stream import result_stream
from storage.queries.results import ResultRow, rows
from storage.queries.text_match import find_text
from storage.query import Query, ReviewFilter, Sort
from storage.records import Status
from tests.support.databases import DatabaseMaker, Target
from tests.support.random_results import FIRST, SECOND, every_row, random_database, reviewed

_LONG = 1e6  # seconds: whatever the load, all is looked at
_TEXTS = (
    "",
    "im",
    "IM",
    "b/",
    "a/b",
    "/",
    "é",
    "%",
    "_",
    "truncated",
    "5",
    "100%",
    "zero BYTES",
    "png",
    "nothing",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run on two databases in files, and on one on a server, where all takes longer."""
    if "database_kind" in metafunc.fixturenames:
        kinds = [("sqlite", 1), ("sqlite", 2), ("postgresql", 1)]
        metafunc.parametrize(("database_kind", "seed"), kinds, indirect=["database_kind"], scope="module")


@pytest.fixture(scope="module")
def database(
    make_module_database: DatabaseMaker, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> Target:
    """Return a database of about a hundred random results."""
    return random_database(tmp_path_factory.mktemp("random"), seed, database=make_module_database())


@pytest.fixture(scope="module", params=["usual limits", "every limit reached"], autouse=True)
def limits(request: pytest.FixtureRequest) -> Iterator[None]:
    """Go both the ways that few rows take and those that a million take."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "every limit reached":
            patch.setattr(budget, "PIECE", 13)
            patch.setattr(text_match, "MOST", 4)
            patch.setattr(result_page, "FEW", 3)
        yield


@st.composite
def _queries(draw: st.DrawFn) -> Query:
    return Query(
        labels=draw(st.sampled_from([(), ("yes",), ("no",), ("nobody",)])),
        statuses=draw(st.sampled_from([(), *((one,) for one in Status)])),
        model=draw(st.sampled_from([None, None, FIRST.weights_sha256[:16], SECOND.name])),
        text=draw(st.sampled_from(_TEXTS)),
        min_score=draw(st.sampled_from([None, None, 0.5])),
        review=draw(st.sampled_from([None, None, *ReviewFilter])),
        sort=draw(st.sampled_from(list(Sort))),
        reverse=draw(st.booleans()),
        limit=draw(st.sampled_from([1, 7, 200])),
    )


def _matches(row: ResultRow, query: Query, seen: dict[ReviewFilter, set[int]]) -> bool:
    """Whether a query lets a row through, in Python."""
    text = os.fsencode(query.text)
    return all(
        (
            not query.labels or row.label in query.labels,
            not query.statuses or row.status in query.statuses,
            query.model is None or query.model == row.model or row.weights_sha256.startswith(query.model),
            query.inbox is None or row.inbox == query.inbox,
            _lower(text) in _lower(row.path) or _lower(text) in _lower((row.reason or "").encode()),
            query.min_score is None or (row.score is not None and row.score >= query.min_score),
            query.review is None or row.result_id in seen[query.review],
            query.series_id is None,
        )
    )


def _lower(text: bytes) -> bytes:
    return text.lower()  # of bytes: ASCII letters only


def _seen(connection: sa.Connection) -> dict[ReviewFilter, set[int]]:
    return {one: reviewed(connection, one) for one in ReviewFilter}


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(query=_queries())
def test_every_page_is_what_the_command_lists(database: Target, query: Query) -> None:
    with open_reader(database) as connection:
        wanted = list(rows(connection, replace(query, limit=None)))
        got: list[ResultRow] = []
        asked = query
        while True:
            found = search(connection, asked, _LONG)
            got += found.page.rows
            if not found.page.more:
                break
            asked = replace(asked, after=got[-1].key(query.sort))

    assert [row.result_id for row in got] == [row.result_id for row in wanted]
    assert found.exact
    assert found.total == len(wanted)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(query=_queries())
def test_facets_count_what_each_choice_would_leave(database: Target, query: Query) -> None:
    with open_reader(database) as connection:
        query = replace(query, inbox=b"" if query.reverse else None)
        inboxes = sorted({row.inbox for row in every_row(connection)})
        query = replace(query, inbox=inboxes[0] if query.reverse else None)
        found = search(connection, query, _LONG).facets
        seen = _seen(connection)
        all_rows = every_row(connection)

    def counted(without: Query, word: str) -> Counter[object]:
        return Counter(getattr(row, word) for row in all_rows if _matches(row, without, seen))

    labels = counted(replace(query, labels=()), "label")
    del labels[None]
    assert _told(found.labels) == labels
    assert _told(found.statuses) == counted(replace(query, statuses=()), "status")
    assert _told(found.inboxes) == counted(replace(query, inbox=None), "inbox")
    by_model = counted(replace(query, model=None), "weights_sha256")
    assert _told(found.models) == {str(name)[:16]: number for name, number in by_model.items()}
    if found.reviews is not None:
        for one in found.reviews:
            wanted = replace(query, review=ReviewFilter(str(one.word)))
            assert one.count == sum(_matches(row, wanted, seen) for row in all_rows)


def _told(found: list[Facet]) -> dict[object, int]:
    return {one.word: one.count for one in found}


@settings(max_examples=15, deadline=None)
@given(query=_queries())
def test_stream_is_what_the_command_writes(database: Target, query: Query) -> None:
    with open_reader(database) as connection:
        wanted = list(rows(connection, replace(query, limit=None)))
    with open_reader(database) as connection:
        got = list(result_stream(connection, query))

    assert got == wanted


@settings(max_examples=15, deadline=None)
@given(text=st.text(st.sampled_from("aAbB/im_%0é-.pngS\\'\" "), min_size=1, max_size=4))
def test_text_is_found_wherever_the_command_finds_it(database: Target, text: str) -> None:
    with open_reader(database) as connection, reading(connection):
        match = find_text(connection, text, Budget(_LONG))
        counts = result_counts.count_kinds(connection, Query(), match, Budget(_LONG))
        wanted = sum(1 for _ in rows(connection, Query(text=text)))

    assert counts.by_kind.total() == wanted


def test_without_time_a_page_tells_how_far_it_looked(
    database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "PIECE", 13)
    with open_reader(database) as connection:
        newest = [row.result_id for row in every_row(connection)]
        found = search(connection, Query(sort=Sort.SCORE, min_score=0.0, limit=5), seconds=0)

    assert found.page.looked_at == 13
    assert not found.exact
    assert {row.result_id for row in found.page.rows} <= set(range(max(newest) - 13, max(newest) + 1))


def test_without_time_a_text_is_searched_for_in_the_newest_files(
    database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "PIECE", 13)
    monkeypatch.setattr(text_match, "MOST", 1_000)
    with open_reader(database) as connection:
        found = search(connection, Query(text="nothing like this", limit=5), seconds=0)

    assert found.searched == 13
    assert not found.exact
