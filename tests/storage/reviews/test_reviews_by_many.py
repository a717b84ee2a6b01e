"""Reviewers at once, interrupted, repeated and undone: no answer is lost or doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.database import open_beside, open_reader, writing
from storage.database_errors import DatabaseBusyError, DatabaseFullError, DatabaseUnavailableError
from storage.reviews.answers import Review
from storage.reviews.review_rows import review_rows
from storage.reviews.review_writer import ReviewWriter
from tests.conftest import REPOSITORY
from tests.support.databases import DatabaseMaker, Target
from tests.support.ledgers import Store, raw
from tests.support.reviews import AT_US, OTHER, SKIP, open_scored, said

pytestmark = pytest.mark.databases

REVIEWERS = ("ada", "bob", "eve")
FILES = (1, 2, 3)


@pytest.fixture(scope="module")
def shared(make_module_database: DatabaseMaker) -> Store:
    return open_scored(make_module_database(), [0.9] * len(FILES))


def stored(path: Target) -> list[tuple[bytes, bool]]:
    """Return request and whether it stands of every review there is."""
    with closing(open_reader(path)) as reader:
        return [(row.request_id, row.stands) for row in review_rows(reader, withdrawn=True)]


_who, _which = st.sampled_from(REVIEWERS), st.sampled_from(FILES)
_answers = st.tuples(
    st.just("answer"), _who, _which, st.sampled_from(["tumour", "no_tumour", OTHER, SKIP]), st.integers(1, 5)
)
_again = st.tuples(st.sampled_from(["undo", "replay"]), _who, st.integers(0, 20))


@pytest.mark.slow
@given(st.lists(_answers | _again, max_size=20))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_stands_is_each_reviewers_last_answer_unless_it_was_undone(
    shared: Store, steps: list[tuple[object, ...]]
) -> None:
    raw(shared.path, "DELETE FROM review")
    writer, made = ReviewWriter(str(shared.path)), list[Review]()
    last: dict[tuple[int, str], bytes] = {}

    for step in steps:
        if step[0] == "answer":
            answer = said(int(str(step[2])), str(step[3]), str(step[1]))
            added = writer.add([answer] * int(str(step[4])))  # sent more than once in one breath
            assert [one.is_new for one in added] == [True] + [False] * (len(added) - 1)
            made.append(answer)
            last[answer.file_id, answer.reviewer] = answer.request_id
        elif made:
            answer = made[int(str(step[2])) % len(made)]
            if step[0] == "replay":
                [again] = writer.add([answer])
                assert not again.is_new
                continue
            key = (answer.file_id, answer.reviewer)
            stands = step[1] == answer.reviewer and last.get(key) == answer.request_id
            assert writer.withdraw(str(step[1]), answer.request_id, AT_US) is stands
            if stands:
                del last[key]

    found = stored(shared.path)
    assert [request for request, _ in found] == [one.request_id for one in made]
    assert {request for request, stands in found if stands} == set(last.values())


@pytest.mark.slow
def test_threads_that_answer_at_once_lose_and_double_nothing(database: Target) -> None:
    """Each request is sent twice, by two threads; each file is answered by three reviewers."""
    store = open_scored(database, [0.9] * 20)
    writer = ReviewWriter(str(store.path), busy_seconds=60)
    answers = [said(number, "tumour", name) for number in range(1, 21) for name in REVIEWERS]

    with ThreadPoolExecutor(8) as pool:
        added = [one for [one] in pool.map(lambda answer: writer.add([answer]), answers * 2)]

    assert sum(one.is_new for one in added) == len(answers)
    assert sorted(stored(store.path)) == sorted((one.request_id, True) for one in answers)
    assert store.is_sound()
    store.close()


@pytest.mark.slow
def test_processes_that_answer_the_same_files_leave_one_standing_answer_each(database: Target) -> None:
    store = open_scored(database, [0.9] * 5)

    done = [_reviewer(store.path, name, rounds=10) for name in REVIEWERS]
    assert [process.wait(120) for process in done] == [0] * len(done)

    found = stored(store.path)
    assert len(found) == 3 * 5 * 10
    assert sum(stands for _, stands in found) == 3 * 5
    assert store.is_sound()
    store.close()


@pytest.mark.slow
def test_killed_reviewer_leaves_whole_answers_and_nobody_waiting(database: Target) -> None:
    store = open_scored(database, [0.9] * 5)
    for number in range(10):
        process = _reviewer(store.path, "ada", rounds=100_000)
        _wait_for_more(store.path)
        time.sleep(0.003 * number)
        process.kill()
        process.wait()

    began = time.perf_counter()
    ReviewWriter(str(store.path)).add([said(1, "tumour", "bob")])

    assert time.perf_counter() - began < 5
    assert store.is_sound()
    assert raw(
        store.path,
        "SELECT count(*) FROM review WHERE withdrawn_us IS NULL GROUP BY file_id, reviewer_id"
        " HAVING count(*) > 1",
    ) == []  # fmt: skip
    store.close()


def test_stopped_reviewer_with_the_lock_makes_others_wait_and_give_up_with_a_hint(database: Target) -> None:
    store = open_scored(database, [0.9])
    answer = said(1, "tumour")
    with (
        closing(open_beside(store.path)) as stopped,
        writing(stopped),
        pytest.raises(DatabaseBusyError, match=r"locked by another (process|session); try again"),
    ):
        ReviewWriter(str(store.path), busy_seconds=0.1).add([answer])

    [added] = ReviewWriter(str(store.path)).add([answer])
    assert added.is_new
    store.close()


@pytest.mark.databases("sqlite")
def test_review_leaves_the_daemons_lock_alone_while_the_disk_is_slow(
    database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flush comes after the lock is released: the ledger commits meanwhile."""
    store = open_scored(database, [0.9])
    begun, go_on = threading.Event(), threading.Event()

    def slow(path: Path) -> None:
        assert path.name == "results.db-wal"
        begun.set()
        assert go_on.wait(30)

    monkeypatch.setattr("storage.reviews.review_writer.flush", slow)
    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(ReviewWriter(str(store.path)).add, [said(1, "tumour")])
        assert begun.wait(30)
        store.add(b"new.png")  # raises DatabaseBusyError after 0.1 s otherwise
        assert not answering.done()
        go_on.set()
        assert answering.result(30)[0].is_new
    store.close()


@pytest.mark.databases("sqlite")
def test_flush_that_fails_is_told_and_the_answer_may_be_sent_again(
    database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, answer = open_scored(database, [0.9]), said(1, "tumour")
    writer = ReviewWriter(str(store.path))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", _fails)
        with pytest.raises(DatabaseUnavailableError, match="sending it again does no harm"):
            writer.add([answer])

    writer.add([answer])

    assert stored(store.path) == [(answer.request_id, True)]
    store.close()


@pytest.mark.databases("sqlite")
def test_full_disk_stores_nothing_and_says_so(database: Target) -> None:
    store = open_scored(database, [0.9] * 3)
    store.close()
    writer = ReviewWriter(str(store.path))
    writer.add([said(1, "tumour")])
    limit = f"PRAGMA max_page_count = {raw(store.path, 'PRAGMA page_count')[0][0]}"

    class Full(ReviewWriter):
        def _open(self) -> sa.Connection:
            connection = super()._open()
            assert connection.connection.driver_connection is not None
            connection.connection.driver_connection.execute(limit)
            return connection

    with pytest.raises(DatabaseFullError, match="make room"):
        Full(str(store.path)).add([said(2, "tumour", note="x" * 60_000)])

    assert len(stored(store.path)) == 1
    writer.add([said(2, "tumour", note="x" * 60_000)])


def _fails(handle: int) -> None:
    raise OSError(5, "Input/output error")


_ANSWERING = """
import sys
from storage.reviews.review_writer import ReviewWriter
from tests.support.reviews import said

path, name, rounds = sys.argv[1:]
writer = ReviewWriter(path, busy_seconds=60)
for number in range(int(rounds)):
    for file_id in range(1, 6):
        writer.add([said(file_id, "tumour" if number % 2 else "no_tumour", name)])
"""


def _reviewer(path: Target, name: str, rounds: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _ANSWERING, str(path), name, str(rounds)], cwd=REPOSITORY)


def _wait_for_more(path: Target) -> None:
    before, deadline = len(stored(path)), time.monotonic() + 60
    while len(stored(path)) < before + 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
