"""The queries: filters, order, pages, counts, stories, status; each against the plain truth of the rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.counters import split
from storage.database import open_reader, reading
from storage.ledger.heartbeat import Heartbeat, latest_heartbeat
from storage.ledger.result_cache import KnownJudgements
from storage.queries.history import story, troubled
from storage.queries.results import (
    ResultRow,
    SummaryRow,
    _select,
    count,
    labels,
    last_result_id,
    rows,
    summary,
)
from storage.queries.statistics import models as models_of
from storage.queries.statistics import reasons as reasons_of
from storage.queries.statistics import score_histogram, timeline
from storage.queries.status import status_snapshot
from storage.query import Query, Sort
from storage.records import Failed, FailureKind, Judged, Outcome, Status
from storage.schema import FileState
from tests.support.databases import DatabaseMaker, Target
from tests.support.ledgers import MODEL, OTHER_MODEL, SECOND_US, TUMOUR, Store, open_store

pytestmark = pytest.mark.databases

DAY_US = 86_400 * SECOND_US
IMAGES = 400


@pytest.fixture(scope="module")
def filled(make_module_database: DatabaseMaker) -> Iterator[Store]:
    """Three days of results of all kinds, many of one instant, in two inboxes, under two models."""
    store = open_store(make_module_database())
    inboxes = [store.inbox_id, store.ledger.inbox_id(b"/second")]
    compared = {"positive": "tumour", "threshold": 0.5, "uncertain_low": 0.4, "uncertain_high": 0.6}
    models = [store.ledger.model_id(replace(one, **compared)) for one in (MODEL, OTHER_MODEL)]  # type: ignore[arg-type]
    chance = random.Random(7)
    number = 0
    while number < IMAGES:
        store.clock.advance(chance.choice([0, 0.3, 61, 3_000, 40_000 / 40]))
        size = chance.randint(1, 12)
        versions = [
            store.version(b"Slice %d.png" % place)._replace(
                folder=b"a/b" * (place % 2),
                inbox_id=inboxes[place % 3 > 1],
            )
            for place in range(number, number + size)
        ]
        entries = store.ledger.add(versions)
        outcomes = [
            Outcome(entry.file_id, _drawn(chance), bytes([entry.file_id % 256]) * 32, 9) for entry in entries
        ]
        store.ledger.record(outcomes, chance.choice(models))
        number += size
    yield store
    store.close()


def _drawn(chance: random.Random) -> Judged | Failed:
    kind = chance.random()
    if kind < 0.1:
        return Failed(FailureKind.PERMANENT, "not an image")
    if kind < 0.2:
        return Judged(Status.REJECTED, None, None, "unlike the training images")
    status = Status.UNCERTAIN if kind < 0.4 else Status.OK
    return Judged(status, chance.choice(["tumour", "no_tumour"]), round(chance.random(), 2))


QUERIES = [
    Query(),
    Query(labels=("tumour",)),
    Query(labels=("tumour", "nobody")),
    Query(labels=("nobody",)),
    Query(statuses=(Status.ERROR, Status.REJECTED)),
    Query(inbox=b"/second"),
    Query(inbox=b"/nowhere"),
    Query(model="cdcd"),
    Query(model="brain-mri"),
    Query(min_confidence=0.5),
    Query(min_confidence=0.2, max_confidence=0.4, labels=("no_tumour",)),
    Query(text="A/B/slice 1"),
    Query(text="unlike THE"),
    Query(text="100%"),
]


def _or_two(row: ResultRow) -> float:
    return 2 if row.confidence is None else row.confidence


def matches(row: ResultRow, query: Query) -> bool:
    """Say in plain words what a filter lets through."""
    text = query.text.lower().encode()
    return (
        (query.since_us is None or row.completed_us >= query.since_us)
        and (query.until_us is None or row.completed_us < query.until_us)
        and (not query.labels or row.label in query.labels)
        and (not query.statuses or row.status in query.statuses)
        and (query.min_confidence is None or (row.confidence or -1) >= query.min_confidence)
        and (
            query.max_confidence is None
            or (row.confidence is not None and row.confidence <= query.max_confidence)
        )
        and (query.inbox is None or row.inbox == query.inbox)
        and (query.model is None or row.weights_sha256.startswith(query.model) or row.model == query.model)
        and (text in row.path.lower() or text in (row.reason or "").lower().encode())
    )


def ranges(everything: list[ResultRow]) -> list[tuple[int | None, int | None]]:
    first, last = everything[-1].completed_us, everything[0].completed_us
    middle = everything[len(everything) // 2].completed_us
    return [
        (None, None),
        (middle, None),
        (None, middle),
        (first, last),
        (middle + 1, middle + 2),
        (middle, middle + 90 * SECOND_US),
        (first + 12_345, last - 54_321),
        (last, first),
        (first - first % DAY_US, first - first % DAY_US + DAY_US),
    ]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_rows_count_and_summary_agree_with_the_plain_truth(filled: Store, query: Query) -> None:
    with open_reader(filled.path) as reader:
        everything = list(rows(reader))
        for since_us, until_us in ranges(everything):
            ranged = replace(query, since_us=since_us, until_us=until_us)
            expected = [row for row in everything if matches(row, ranged)]

            assert list(rows(reader, ranged)) == expected
            assert count(reader, ranged) == len(expected)
            assert {(row.label, row.status): row.count for row in summary(reader, ranged)} == Counter(
                (row.label, row.status) for row in expected
            )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sort", list(Sort))
def test_pages_by_key_are_the_whole_in_order_without_a_gap_or_repeat(
    filled: Store, sort: Sort, reverse: bool
) -> None:
    with open_reader(filled.path) as reader:
        query = Query(sort=sort, reverse=reverse)
        whole = list(rows(reader, query))
        paged: list[ResultRow] = []
        after = None
        while page := list(rows(reader, replace(query, limit=37, after=after))):
            paged += page
            after = page[-1].key(sort)

    assert paged == whole
    assert len({row.result_id for row in whole}) == len(whole) >= IMAGES


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("limit", [0, 1, 9, None])
def test_rare_results_are_found_on_their_days_alone(
    database: Target, limit: int | None, reverse: bool
) -> None:
    """Days without any are left out of the search; what is found and its order stay the same."""
    store = open_store(database)
    rare = []
    for day in range(12):
        entries = store.add(*(b"%d-%d.png" % (day, number) for number in range(3)))
        store.judge(entries)
        if day in (1, 4, 5, 11):
            rare += [store.version(b"rare %d.png" % day)]
            store.judge(store.ledger.add(rare[-1:]), Judged(Status.UNCERTAIN, "rare", 0.5))
        store.clock.advance(86_400)

    query = Query(labels=("rare",), limit=limit, reverse=reverse)
    found = [row.path for row in rows(store.connection, query)]

    expected = [version.name for version in (rare if reverse else rare[::-1])]
    assert found == expected[:limit]
    store.close()


def test_newest_come_first_and_highest_confidence_first(filled: Store) -> None:
    with open_reader(filled.path) as reader:
        by_time = [(row.completed_us, row.result_id) for row in rows(reader)]
        sure = [row.confidence or -1 for row in rows(reader, Query(sort=Sort.CONFIDENCE))]

    assert by_time == sorted(by_time, reverse=True)
    assert sure == sorted(sure, reverse=True)


def test_follow_sees_what_was_committed_after_a_result_even_if_the_clock_went_back(database: Target) -> None:
    store = open_store(database)
    store.judge(store.add(b"a.png"))
    with open_reader(store.path) as reader:
        seen = last_result_id(reader)
        store.clock.advance(-3_600)
        store.judge(store.add(b"b.png"))

        new = list(rows(reader, Query(sort=Sort.ID, reverse=True, after_result_id=seen)))

    assert [row.path for row in new] == [b"b.png"]
    store.close()


def test_error_row_that_was_retried_comes_again_when_following(database: Target) -> None:
    store = open_store(database)
    [entry] = store.add(b"a.png")
    store.fail(entry, FailureKind.PERMANENT)
    store.judge(store.add(b"b.png"))
    seen = last_result_id(store.connection)

    store.ledger.requeue()
    store.judge([entry])

    new = list(rows(store.connection, Query(after_result_id=seen)))
    assert [(row.path, row.status) for row in new] == [(b"a.png", Status.OK)]
    store.close()


def test_row_carries_everything_that_was_stored(database: Target) -> None:
    store = open_store(database)
    judged = Judged(Status.UNCERTAIN, "tumour", 0.51, "near the threshold", 7, 24, {"Modality": "MR"})
    [entry] = store.ledger.add([store.version(b"a.png", folder=b"sub")])

    store.judge([entry], judged, b"\1" * 32)

    [row] = rows(store.connection)
    assert row == ResultRow(
        id=entry.file_id,
        result_id=1,
        inbox=b"/inbox",
        path=b"sub/a.png",
        status=Status.UNCERTAIN,
        label="tumour",
        confidence=0.51,
        reason="near the threshold",
        completed_us=store.clock.now_us,
        duration_us=1_500,
        model="brain-mri",
        model_version="1",
        weights_sha256="ab" * 32,
        engine="openvino",
        precision="bf16",
        device="cpu",
        size=7_000,
        sha256=b"\1" * 32,
        slice_index=7,
        slice_count=24,
        tags={"Modality": "MR"},
        superseded=False,
        moved_to=None,
    )
    assert row.full_path == b"/inbox/sub/a.png"
    store.close()


@pytest.mark.parametrize(
    "query",
    [
        Query(limit=50),
        Query(since_us=1, limit=50),
        Query(limit=50, after=(5, 5)),
        Query(limit=50, inbox=b"/inbox"),
        Query(limit=50, labels=("tumour",), statuses=(Status.OK,)),
        Query(limit=50, sort=Sort.ID, after_result_id=3),
    ],
    ids=str,
)
@pytest.mark.databases("sqlite")
def test_first_page_starts_at_the_results_and_never_sorts_them_all(filled: Store, query: Query) -> None:
    with open_reader(filled.path) as reader, reading(reader):
        compiled = _select(reader, query).compile(reader, compile_kwargs={"render_postcompile": True})
        assert compiled.positiontup is not None
        values = tuple(compiled.params[name] for name in compiled.positiontup)
        plan = [str(row[3]) for row in reader.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values)]

    assert "result USING" in plan[0]
    assert not any(step == "USE TEMP B-TREE FOR ORDER BY" for step in plan)


@given(since=st.none() | st.integers(0, 10**13), length=st.none() | st.integers(0, 10**12))
@settings(max_examples=300)
def test_spans_cover_a_range_exactly_once(since: int | None, length: int | None) -> None:
    until = None if length is None else (since or 0) + length
    spans = sorted(split(since, until), key=lambda span: -1 if span.since_us is None else span.since_us)

    if since is not None and since == until:
        assert spans == []
        return
    assert (spans[0].since_us, spans[-1].until_us) == (since, until)
    for span, following in pairwise(spans):
        assert span.until_us == following.since_us
    for span in spans:
        for edge in (span.since_us, span.until_us):
            assert not span.seconds or edge is None or edge % (span.seconds * SECOND_US) == 0


def test_empty_database_answers_everything(database: Target) -> None:
    store = open_store(database)
    connection = store.connection

    assert (list(rows(connection)), count(connection), summary(connection), labels(connection)) == (
        [],
        0,
        [],
        [],
    )
    assert (story(connection, 1), list(troubled(connection)), last_result_id(connection)) == ([], [], 0)
    snapshot = status_snapshot(connection, store.clock.now_us)
    assert (snapshot.heartbeat, snapshot.results, snapshot.last_result_us) == (None, 0, None)
    store.close()


def test_timeline_and_histogram_add_up(filled: Store) -> None:
    with open_reader(filled.path) as reader:
        hours = timeline(reader, Query(), 3_600)
        days = timeline(reader, Query(statuses=(Status.OK,)), 86_400)
        shares = score_histogram(reader, Query(), bins=10)
        everything = list(rows(reader))

    assert sum(row.count for row in hours) == len(everything)
    assert sum(row.count for row in days) == sum(row.status is Status.OK for row in everything)
    assert all(row.start_us % (3_600 * SECOND_US) == 0 for row in hours)
    assert set(shares) == {row.label for row in everything if row.label is not None}
    for name, parts in shares.items():
        sure = [row.score for row in everything if row.label == name and row.score is not None]
        assert parts == [sum(min(int(value * 10), 9) == place for value in sure) for place in range(10)]


def test_models_and_reasons_add_up(filled: Store) -> None:
    with open_reader(filled.path) as reader:
        found = models_of(reader, Query())
        why = reasons_of(reader, Query(), limit=1_000)
        everything = list(rows(reader))

    assert {one.weights_sha256: one.count for one in found} == Counter(
        row.weights_sha256 for row in everything
    )
    assert {one.reason: one.count for one in why} == Counter(
        row.reason or "" for row in everything if row.status is Status.ERROR
    )


def test_story_tells_versions_attempts_and_results_newest_first(database: Target) -> None:
    store = open_store(database)
    [first] = store.add(b"a.png")
    store.fail(first, FailureKind.TRANSIENT, "busy")
    store.judge([first])
    [second] = store.ledger.add([store.version(b"a.png", mtime_ns=2)])
    store.judge([second])
    store.ledger.record([Outcome(second.file_id, TUMOUR)], store.ledger.model_id(OTHER_MODEL))

    by_id = story(store.connection, first.file_id)
    by_path = story(store.connection, b"/inbox/a.png")

    assert by_id == by_path == story(store.connection, b"a.png")
    new, old = by_id[0].versions
    assert (new.state, [row.model_version for row in new.results]) == (FileState.DONE, ["2", "1"])
    assert (old.state, [(tried.reason, tried.kind) for tried in old.attempts]) == (
        FileState.SUPERSEDED,
        [("busy", FailureKind.TRANSIENT)],
    )
    assert story(store.connection, b"/elsewhere/a.png") == []
    store.close()


def test_troubled_files_are_those_given_up_and_those_tried_again(database: Target) -> None:
    store = open_store(database)
    fine, bad, again = store.add(b"a.png", b"b.png", b"c.png")
    store.judge([fine])
    store.fail(bad, FailureKind.PERMANENT, "not an image")
    store.fail(again, FailureKind.TRANSIENT, "busy")
    store.fail(again, FailureKind.TRANSIENT, "still busy")

    found = list(troubled(store.connection))

    assert [(one.path, one.state, one.reason, one.attempts) for one in found] == [
        (b"c.png", FileState.PENDING, "still busy", 2),
        (b"b.png", FileState.QUARANTINED, "not an image", 1),
    ]
    assert [one.id for one in troubled(store.connection, limit=1, before_id=again.file_id)] == [bad.file_id]
    store.close()


def test_status_tells_what_the_daemon_said_last_and_what_waits(database: Target) -> None:
    store = open_store(database)
    now_us = store.clock.now_us
    done, bad, _ = store.add(b"a.png", b"b.png", b"c.png")
    store.judge([done])
    store.fail(bad, FailureKind.PERMANENT)
    beat = Heartbeat("host", 42, now_us, now_us, None, {"polling": ["/inbox"], "scan_us": 5})
    store.ledger.beat(beat)
    with store.ledger.transaction():
        store.ledger.beat(replace(beat, updated_us=now_us + 1))

    with open_reader(store.path) as reader:
        snapshot = status_snapshot(reader, now_us)

    assert snapshot.heartbeat == replace(beat, updated_us=now_us + 1)
    assert (snapshot.results, snapshot.results_last_minute, snapshot.last_result_us) == (2, 2, now_us)
    assert snapshot.by_status == {Status.OK: 1, Status.ERROR: 1}
    assert (snapshot.counts.pending, snapshot.counts.quarantined) == (1, 1)
    store.close()


def test_only_the_last_runs_are_remembered(database: Target) -> None:
    store = open_store(database)

    for run in range(50):
        store.ledger.beat(Heartbeat("host", 1, run, run, None, {}))

    latest = latest_heartbeat(store.connection)
    assert latest is not None
    assert latest.started_us == 49
    store.close()


@pytest.mark.databases("sqlite")
def test_identical_bytes_are_known_under_the_same_model_only(database: Target) -> None:
    store = open_store(database)
    good, bad = store.add(b"a.png", b"b.png")
    judged = Judged(Status.UNCERTAIN, "tumour", 0.5, "near", 1, 2, {"Modality": "MR"})
    store.judge([good], judged, b"\1" * 32)
    store.ledger.record(
        [Outcome(bad.file_id, Failed(FailureKind.PERMANENT, "x"), b"\2" * 32)], store.model_id
    )
    # The same first eight bytes, which is all that the index holds.
    alike = b"\1" * 31 + b"\2"

    with KnownJudgements(store.path, store.model_id) as known, KnownJudgements(store.path, 99) as other:
        assert known.find([b"\1" * 32, b"\2" * 32, alike]) == {b"\1" * 32: judged}
        assert other.find([b"\1" * 32]) == {}
    store.close()


@pytest.mark.databases("sqlite")
def test_lookup_uses_the_index_and_a_missing_database_knows_nothing(tmp_path: Path, filled: Store) -> None:
    from storage.ledger.result_cache import _QUERY

    with open_reader(filled.path) as reader, reading(reader):
        plan = reader.exec_driver_sql(f"EXPLAIN QUERY PLAN {_QUERY}", (b"", b"", 1)).all()

    assert "ix_result_sha256_prefix" in str(plan[0])
    assert KnownJudgements(tmp_path / "none.db", 1).find([b"\1" * 32]) == {}


def test_iterator_that_outlives_its_connection_ends_quietly(filled: Store) -> None:
    with open_reader(filled.path) as reader:
        iterator = rows(reader)
        next(iterator)

    iterator.close()


def test_summary_names_the_most_frequent_first(filled: Store) -> None:
    found = summary(filled.connection)

    assert [row.count for row in found] == sorted((row.count for row in found), reverse=True)
    assert SummaryRow(None, Status.ERROR, count(filled.connection, Query(statuses=(Status.ERROR,)))) in found
