"""Next and previous in a list, whatever it is filtered and sorted by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from daemon.web.viewer.neighbours import neighbour
from storage.database import open_reader
from storage.queries.results import rows
from storage.query import Query, Sort
from storage.records import Status
from tests.support.stored_results import MODEL, Store, judged


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sa.Connection]:
    """Thirty images, some alike in all that is sorted by; ten were judged by a second model too."""
    store = Store(tmp_path / "x.db", tmp_path)
    kinds = [judged("yes", 0.9), judged("no", 0.7, Status.UNCERTAIN), judged("yes", 0.6)]
    store.put([(b"%02d.png" % number, kinds[number % 3]) for number in range(30)])
    store.judge_again([judged("no", 0.8)] * 10, replace(MODEL, weights_sha256="b" * 64))
    connection = open_reader(tmp_path / "x.db")
    yield connection
    connection.close()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sort", list(Sort))
def test_one_comes_to_every_image_of_a_list_and_back(
    connection: sa.Connection, sort: Sort, reverse: bool
) -> None:
    query = Query(sort=sort, reverse=reverse, labels=("yes",), model=MODEL.weights_sha256[:16])
    listed = [row.id for row in rows(connection, query)]
    assert len(listed) == 20

    onwards = [neighbour(connection, query, one) for one in listed]
    back = [neighbour(connection, query, one, back=True) for one in listed]

    assert onwards == [*listed[1:], None]
    assert back == [None, *listed[:-1]]


def test_second_answer_to_an_image_is_no_next_image(connection: sa.Connection) -> None:
    query = Query(sort=Sort.FILE)

    assert neighbour(connection, query, 5) == 6
    assert neighbour(connection, query, 5, back=True) == 4


def test_image_that_left_the_list_still_has_a_place_in_it(connection: sa.Connection) -> None:
    query = Query(labels=("no",), sort=Sort.FILE, model=MODEL.weights_sha256[:16])

    found = [neighbour(connection, query, 13, back=back) for back in (True, False)]  # a yes

    assert found == [11, 14]


def test_unknown_image_has_no_neighbours(connection: sa.Connection) -> None:
    assert neighbour(connection, Query(), 999) is None
