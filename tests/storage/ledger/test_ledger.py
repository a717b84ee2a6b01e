"""The ledger: what it takes up, hands out, stores, puts off and gives up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.database import open_reader
from storage.ledger.ledger import Ledger
from storage.ledger.retry import RetryPolicy, next_step
from storage.queries.history import story
from storage.queries.results import count, rows
from storage.query import Query
from storage.records import Failed, FailureKind, Judged, Outcome, Status
from storage.schema import FileState
from tests.support.databases import Target
from tests.support.ledgers import OTHER_MODEL, SECOND_US, TUMOUR, Store, open_store, raw

pytestmark = pytest.mark.databases


@pytest.fixture
def store(database: Target) -> Iterator[Store]:
    opened = open_store(database)
    yield opened
    opened.close()


def result_count(store: Store) -> int:
    return count(store.connection)


def test_new_file_becomes_pending_then_done(store: Store) -> None:
    [entry] = store.add(b"a.png")
    waiting = store.due()

    store.judge(waiting)

    assert waiting == [entry]
    assert store.due() == []
    assert [row.label for row in rows(store.connection)] == ["tumour"]


def test_known_version_is_neither_unknown_nor_added_again(store: Store) -> None:
    store.judge(store.add(b"a.png"))
    version = store.version(b"a.png")

    assert store.ledger.unknown([version]) == []
    assert store.ledger.add([version]) == []
    assert result_count(store) == 1


@pytest.mark.parametrize("change", [{"size": 8_000}, {"mtime_ns": 2}, {"inode": 2}])
def test_any_changed_property_makes_a_new_version(store: Store, change: dict[str, Any]) -> None:
    """The inode alone counts: it is used again by other content of the same size and time."""
    store.judge(store.add(b"a.png"))
    changed = store.version(b"a.png", **change)

    entries = store.ledger.add(store.ledger.unknown([changed]))
    store.judge(entries)

    [told] = story(store.connection, b"/inbox/a.png")
    assert [version.state for version in told.versions] == [FileState.DONE, FileState.SUPERSEDED]
    assert result_count(store) == 2


def test_superseded_pending_version_is_never_judged(store: Store) -> None:
    [old] = store.add(b"a.png")
    [new] = store.ledger.add([store.version(b"a.png", size=9_000)])

    waiting = store.due()
    store.judge([old])

    assert waiting == [new]
    assert result_count(store) == 0


def test_of_several_versions_in_one_call_the_last_counts(store: Store) -> None:
    entries = store.ledger.add([store.version(b"a.png", size=1), store.version(b"a.png", size=2)])

    assert [entry.version.size for entry in entries] == [2]


def test_same_name_in_two_folders_and_two_inboxes_are_different_files(store: Store) -> None:
    other = store.ledger.inbox_id(b"/other")
    here = store.version(b"a.png")
    there = store.version(b"a.png", folder=b"sub")
    elsewhere = type(here)(other, b"", b"a.png", 1, 1, 1)

    entries = store.ledger.add([here, there, elsewhere])

    assert len({entry.file_id for entry in entries}) == 3
    assert {entry.version for entry in store.due()} == {here, there, elsewhere}


@pytest.mark.parametrize(
    "name",
    [
        b"no 5.jpeg",
        b"\xff\xfe\x80.png",
        b"new\nline.png",
        b"n" * 255,
        "ünï \u202e gnp.png".encode(),
        b"%s'\".png",
    ],
)
def test_names_of_any_bytes_come_back_unchanged(store: Store, name: bytes) -> None:
    version = store.version(name, folder=b"\xc3\x28/x")

    store.judge(store.ledger.add([version]))

    assert store.ledger.unknown([version]) == []
    assert [row.path for row in rows(store.connection)] == [b"\xc3\x28/x/" + name]


def test_more_files_than_fit_into_one_statement(store: Store) -> None:
    versions = [store.version(b"%d.png" % number, folder=b"%d" % (number % 3)) for number in range(2_000)]

    entries = store.ledger.add(versions)
    store.judge(entries)

    assert {entry.version for entry in entries} == set(versions)
    assert store.ledger.unknown(versions) == []
    assert result_count(store) == 2_000


def test_oldest_come_first_and_those_in_flight_are_passed_over(store: Store) -> None:
    [first] = store.add(b"z.png")
    store.clock.advance(1)
    [second, third] = store.add(b"a.png", b"b.png")

    assert store.due() == [first, second, third]
    assert store.ledger.due(1, store.clock.now_us, exclude={first.file_id}) == [second]


def test_same_outcome_recorded_twice_stores_one_row_and_counts_once(store: Store) -> None:
    """A commit whose fsync failed may have persisted; the repeat must change nothing."""
    entries = store.add(b"a.png", b"b.png")
    bad = Outcome(entries[1].file_id, Failed(FailureKind.PERMANENT, "not an image"))
    outcomes = [Outcome(entries[0].file_id, TUMOUR, b"\1" * 32), bad]

    for _ in range(3):
        store.ledger.record(outcomes, store.model_id)

    assert result_count(store) == 2
    assert raw(store.path, "SELECT count(*) FROM attempt") == [(1,)]
    assert store.is_sound()


def test_exception_within_a_turn_undoes_all_of_it_and_it_can_be_repeated(store: Store) -> None:
    [entry] = store.add(b"a.png")
    version = store.version(b"b.png", folder=b"new folder")
    outcome = Outcome(entry.file_id, Judged(Status.OK, "a new class", 0.5))

    def turn(*, fails: bool) -> None:
        with store.ledger.transaction():
            store.ledger.add([version])
            store.ledger.record([outcome], store.model_id)
            if fails:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        turn(fails=True)
    before = result_count(store), store.ledger.unknown([version])
    turn(fails=False)

    assert before == (0, [version])
    assert result_count(store) == 1
    assert store.is_sound()


def test_transient_failure_is_tried_again_later_each_time_after_a_longer_wait(store: Store) -> None:
    [entry] = store.add(b"a.png")
    waits = []

    for _ in range(7):
        store.fail(entry, FailureKind.TRANSIENT, "permission denied")
        due_us = store.ledger.next_due_us()
        assert due_us is not None
        assert store.due() == []
        waits.append((due_us - store.clock.now_us) / SECOND_US)
        store.clock.now_us = due_us
        assert [waiting.file_id for waiting in store.due()] == [entry.file_id]

    assert waits == [1, 2, 4, 8, 16, 32, 64]
    store.judge([entry])
    assert [row.status for row in rows(store.connection)] == [Status.OK]


def test_transient_failure_is_given_up_after_the_last_attempt_with_the_reason(store: Store) -> None:
    [entry] = store.add(b"a.png")

    for _ in range(8):
        store.fail(entry, FailureKind.TRANSIENT, "permission denied")

    [row] = rows(store.connection)
    assert (row.status, row.reason) == (Status.ERROR, "gave up after 8 attempts: permission denied")
    assert store.ledger.counts().quarantined == 1
    assert store.ledger.next_due_us() is None


def test_permanent_failure_is_quarantined_at_once(store: Store) -> None:
    [entry] = store.add(b"a.png")

    store.fail(entry, FailureKind.PERMANENT, "not an\nimage")

    assert [row.reason for row in rows(store.connection)] == ["not an image"]
    assert store.due() == []


def test_incomplete_file_waits_and_is_quarantined_only_at_the_deadline(store: Store) -> None:
    [entry] = store.add(b"a.png")
    store.clock.advance(1)

    store.fail(entry, FailureKind.INCOMPLETE, "truncated")
    at_first = result_count(store), store.due()
    store.clock.advance(299)
    waiting = store.due()
    store.fail(entry, FailureKind.INCOMPLETE, "truncated")

    assert at_first == (0, [])
    assert [again.file_id for again in waiting] == [entry.file_id]
    assert [row.reason for row in rows(store.connection)] == ["still incomplete after 300 s: truncated"]


def test_incomplete_file_that_changes_is_judged_as_its_new_version(store: Store) -> None:
    [entry] = store.add(b"a.png")
    store.fail(entry, FailureKind.INCOMPLETE, "truncated")

    [whole] = store.ledger.add([store.version(b"a.png", size=9_000)])
    store.judge([whole])

    assert [(row.status, row.size) for row in rows(store.connection)] == [(Status.OK, 9_000)]
    assert store.ledger.counts().pending == 0


@pytest.mark.parametrize("kind", [FailureKind.GONE, FailureKind.CHANGED])
def test_file_gone_or_changed_leaves_no_row_and_may_come_back(store: Store, kind: FailureKind) -> None:
    [entry] = store.add(b"a.png")
    store.fail(entry, kind)
    version = store.version(b"a.png")

    known = store.ledger.unknown([version])
    [back] = store.ledger.add(known)

    assert known == [version]
    assert back.file_id == entry.file_id
    assert result_count(store) == 0


def test_overwriting_a_quarantined_file_makes_a_new_version(store: Store) -> None:
    [entry] = store.add(b"a.png")
    store.fail(entry, FailureKind.PERMANENT)

    store.judge(store.ledger.add([store.version(b"a.png", mtime_ns=2)]))

    assert store.ledger.counts().quarantined == 0
    assert [row.superseded for row in rows(store.connection, Query(statuses=(Status.ERROR,)))] == [True]


def test_clock_set_back_a_day_puts_nothing_off_for_a_day(store: Store) -> None:
    [entry] = store.add(b"a.png")
    [new] = store.add(b"b.png")
    store.fail(entry, FailureKind.TRANSIENT)

    store.clock.advance(-86_400)

    assert {waiting.file_id for waiting in store.due()} == {entry.file_id, new.file_id}


def test_requeue_makes_quarantined_files_pending_and_drops_their_error_rows(store: Store) -> None:
    good, bad, worse = store.add(b"a.png", b"b.png", b"c.png")
    store.judge([good])
    store.fail(bad, FailureKind.PERMANENT)
    store.fail(worse, FailureKind.PERMANENT)

    one = store.ledger.requeue([bad.file_id, good.file_id])
    rest = store.ledger.requeue()

    assert (one, rest) == (1, 1)
    assert [waiting.file_id for waiting in store.due()] == [bad.file_id, worse.file_id]
    assert [row.id for row in rows(store.connection)] == [good.file_id]
    assert store.is_sound()


def test_requeue_from_another_process_is_noticed(store: Store) -> None:
    [bad] = store.add(b"b.png")
    store.fail(bad, FailureKind.PERMANENT)
    store.ledger.changed_elsewhere()
    quiet = store.ledger.changed_elsewhere()

    other = open_store(store.path)
    other.ledger.requeue()
    other.close()

    assert not quiet
    assert store.ledger.changed_elsewhere()
    assert [waiting.file_id for waiting in store.due()] == [bad.file_id]


def test_requeue_of_a_waiting_file_makes_it_due_now(store: Store) -> None:
    [entry] = store.add(b"a.png")
    store.fail(entry, FailureKind.TRANSIENT)

    assert store.due() == []
    assert store.ledger.requeue([entry.file_id]) == 1
    assert [waiting.attempts for waiting in store.due()] == [0]


def test_move_is_due_after_the_commit_until_it_is_marked(database: Target) -> None:
    """A crash between the two leaves it due: it is done at the next start."""
    store = open_store(database, move_done=True)
    moved, left, bad = store.add(b"a.png", b"b.png", b"c.png")
    store.judge([moved, left])
    store.fail(bad, FailureKind.PERMANENT)
    store.close()

    store = open_store(database, move_done=True)
    due = store.ledger.moves.due(10, [store.inbox_id], quarantined=False)
    store.ledger.moves.mark([(moved.file_id, b"/done/a.png"), (left.file_id, None)])

    assert [(move.file_id, move.version.name) for move in due] == [
        (moved.file_id, b"a.png"),
        (left.file_id, b"b.png"),
    ]
    assert store.ledger.counts().moves_due == 0
    assert {row.full_path for row in rows(store.connection)} == {
        b"/done/a.png",
        b"/inbox/b.png",
        b"/inbox/c.png",
    }
    store.close()


def test_reclassify_makes_present_files_pending_for_another_model_once(database: Target) -> None:
    store = open_store(database, move_done=True)
    first, second = store.add(b"a.png", b"b.png")
    store.judge([first, second])
    store.ledger.moves.mark([(second.file_id, b"/done/b.png")])
    other = store.ledger.model_id(OTHER_MODEL)

    chosen = store.ledger.reclassify(other)
    waiting = store.due()
    store.ledger.record([Outcome(first.file_id, Judged(Status.OK, "no_tumour", 0.6))], other)

    assert chosen == 1
    assert [entry.file_id for entry in waiting] == [first.file_id]
    assert store.ledger.reclassify(other) == 0
    assert sorted((row.path, row.model_version) for row in rows(store.connection)) == [
        (b"a.png", "1"),
        (b"a.png", "2"),
        (b"b.png", "1"),
    ]
    assert store.is_sound()


def test_gone_files_are_marked_only_if_they_still_wait(store: Store) -> None:
    done, waiting = store.add(b"a.png", b"b.png")
    store.judge([done])

    store.ledger.mark_gone([done.file_id, waiting.file_id])

    assert store.due() == []
    assert story(store.connection, done.file_id)[0].versions[0].state is FileState.DONE


def test_counts_tell_what_waits_and_since_when(store: Store) -> None:
    start = store.clock.now_us
    [again] = store.add(b"a.png")
    store.clock.advance(5)
    store.add(b"b.png")
    store.fail(again, FailureKind.TRANSIENT)

    counts = store.ledger.counts()

    assert (counts.pending, counts.retrying, counts.quarantined) == (2, 1, 0)
    assert counts.oldest_pending_us == start


def test_model_is_the_same_only_with_the_same_engine_and_precision(store: Store) -> None:
    again = store.ledger.model_id(OTHER_MODEL)

    assert store.ledger.model_id(OTHER_MODEL) == again != store.model_id


@pytest.mark.databases("sqlite")  # the plan is SQLite's
def test_queue_is_read_from_its_index_without_sorting(store: Store) -> None:
    """A burst seen in one turn has one time; sorting it for each refill would be quadratic."""
    from storage.ledger.ledger import _DUE

    sql = str(_DUE.compile(store.connection, compile_kwargs={"render_postcompile": True}))

    plan = " ".join(str(row[3]) for row in raw(store.path, f"EXPLAIN QUERY PLAN {sql.replace('?', '9')}"))

    assert "ix_file_due" in plan
    assert "TEMP B-TREE" not in plan


@given(
    attempts=st.integers(1, 10_000),
    factor=st.floats(1, 10),
    cap=st.floats(1, 3_600),
    ahead=st.integers(-(10**12), 10**12),
)
@settings(max_examples=200)
def test_no_wait_is_ever_longer_than_the_policy_says(
    attempts: int, factor: float, cap: float, ahead: int
) -> None:
    policy = RetryPolicy(factor=factor, cap_seconds=cap, attempts=100_000)
    now_us = 1_790_000_000 * SECOND_US

    for kind in (FailureKind.TRANSIENT, FailureKind.INCOMPLETE):
        step = next_step(Failed(kind, "x"), attempts, now_us + ahead, now_us, policy)
        if step.not_before_us is not None:
            assert now_us < step.not_before_us <= now_us + policy.longest_wait_us


def test_reader_sees_nothing_of_an_open_turn(store: Store) -> None:
    [entry] = store.add(b"a.png")

    with open_reader(store.path) as reader:
        with store.ledger.transaction():
            store.judge([entry])
            during = count(reader)
        after = count(reader)

    assert (during, after) == (0, 1)


def test_two_ledgers_never_give_the_same_number(store: Store) -> None:
    """`classify --save` may write beside the daemon."""
    other = open_store(store.path)
    assert isinstance(other.ledger, Ledger)

    entries = [*store.add(b"a.png"), *other.add(b"b.png"), *store.add(b"c.png")]
    other.close()

    assert len({entry.file_id for entry in entries}) == 3
