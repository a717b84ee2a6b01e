"""Series, studies and patients are found, filtered, sorted, paged and counted by their verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from storage.queries.series_rows import SeriesRow, series_count, series_rows, series_summary, slices_of
from storage.query import Grouping, Query, Sort
from storage.records import Judged, Outcome, PathMembership, Status
from tests.support.databases import Target
from tests.support.ledgers import Store
from tests.support.series import OTHER_SERIES_MODEL, RULE, keys, open_series_store, slice_of

pytestmark = pytest.mark.databases


@pytest.fixture
def store(database: Target) -> Iterator[Store]:
    """Four series: 0 and 1 are of one patient, 2 and 3 of another, each a study; 3 is all rejected."""
    store = open_series_store(database)
    for number, scores in enumerate(((0.1, 0.2), (0.9, 0.95, 0.99), (0.3, 0.4), (0.99,))):
        store.clock.advance(60)
        for place, score in enumerate(scores):
            add(store, f"{number}/{place}.dcm", slice_of(keys(number, -place), score, rejected=number == 3))
    yield store
    store.close()


def add(store: Store, name: str, judged: Judged) -> None:
    folder, _, base = name.rpartition("/")
    [entry] = store.ledger.add([store.version(base.encode(), folder.encode())])
    store.ledger.record([Outcome(entry.file_id, judged)], store.model_id)


def found(
    store: Store, grouping: Grouping = Grouping.SERIES, offset: int = 0, **query: object
) -> list[SeriesRow]:
    asked = Query(**query)  # type: ignore[arg-type]
    return list(series_rows(store.connection, grouping, asked, offset))


def test_series_touched_last_comes_first_with_all_that_is_known(store: Store) -> None:
    rows = found(store)

    assert [row.id for row in rows] == [4, 3, 2, 1]
    row = rows[2]
    assert (row.name, row.study, row.patient) == ("0" * 12, "0" * 12, "0" * 12)  # the first digits
    assert (row.status, row.label, row.slices, row.rejected, row.files) == (Status.OK, "tumour", 3, 0, 3)
    assert (row.decisive_path, row.inbox) == (b"1/2.dcm", b"/inbox")
    assert (row.positive, row.threshold) == ("tumour", RULE.series.threshold if RULE.series else None)
    assert row.touched_us == row.first_us


def test_study_and_patient_have_the_answer_of_their_loudest_series(store: Store) -> None:
    patients = found(store, Grouping.PATIENT, sort=Sort.SCORE)

    assert [(row.label, row.series, row.slices, row.rejected) for row in patients] == [
        ("tumour", 2, 5, 0),
        ("no_tumour", 2, 2, 1),
    ]
    assert [row.id for row in patients] == [2, 3]
    assert len(found(store, Grouping.STUDY)) == 4


def test_what_is_of_no_study_or_patient_stands_for_itself(store: Store) -> None:
    votes = {5: 3}
    for name in ("a.nii", "b.nii"):
        add(store, name, slice_of(None, 0.2, slice_index=1, slice_count=3, votes=votes))

    rows = found(store, Grouping.PATIENT)

    assert [(row.name, row.patient) for row in rows[:2]] == [("b.nii", None), ("a.nii", None)]
    assert len(rows) == 4


def test_filters_are_about_the_answer_and_when_it_was_touched(store: Store) -> None:
    last = store.clock.now_us

    assert [row.id for row in found(store, labels=("tumour",))] == [2]
    assert [row.id for row in found(store, statuses=(Status.REJECTED,))] == [4]
    assert [row.id for row in found(store, min_score=0.5)] == [2]
    assert [row.id for row in found(store, since_us=last - 60_000_000, until_us=last)] == [3]
    assert [row.id for row in found(store, text="2/1.DCM")] == [3]
    assert [row.id for row in found(store, inbox=b"/elsewhere")] == []
    assert [row.id for row in found(store, Grouping.PATIENT, labels=("no_tumour",))] == [3]


def test_two_models_have_a_row_each(store: Store) -> None:
    other = store.ledger.model_id(OTHER_SERIES_MODEL)
    [entry] = store.ledger.add([store.version(b"new")])
    store.ledger.record([Outcome(entry.file_id, slice_of(keys(0), 0.99))], other)

    assert len(found(store)) == 5
    assert [row.model_version for row in found(store, model="cd")] == ["2"]
    assert series_count(store.connection, Grouping.PATIENT, Query()) == 3


def test_counts_are_those_of_the_rows(store: Store) -> None:
    counts = series_summary(store.connection, Grouping.SERIES, Query(limit=1))

    assert {row.name for row in counts} == {"brain-mri"}
    assert [(row.label, row.status, row.count) for row in counts] == [
        ("no_tumour", Status.OK, 2),
        ("tumour", Status.OK, 1),
        (None, Status.REJECTED, 1),
    ]
    assert series_count(store.connection, Grouping.PATIENT, Query(labels=("tumour",))) == 1


@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("grouping", [Grouping.SERIES, Grouping.PATIENT])
def test_pages_are_the_whole_in_any_order(store: Store, sort: Sort, grouping: Grouping) -> None:
    whole = found(store, grouping, sort=sort)

    pages = [row for start in range(len(whole)) for row in found(store, grouping, start, sort=sort, limit=1)]

    assert pages == whole
    assert found(store, grouping, sort=sort, reverse=True) == whole[::-1]


def test_slices_are_in_their_place_without_those_that_were_overwritten(store: Store) -> None:
    store.ledger.add([store.version(b"0.dcm", b"1", size=8_000)])

    slices = slices_of(store.connection, 2)

    assert [(one.path, one.position, one.score) for one in slices] == [
        (b"1/2.dcm", -2.0, 0.99),
        (b"1/1.dcm", -1.0, 0.95),
    ]
    assert slices_of(store.connection, 2, "cd" * 32) == []


def test_path_names_a_volume_and_nothing_that_says_what_it_is_part_of(store: Store) -> None:
    add(store, "1.2.840.4711.dcm", slice_of(replace(keys(7), study=None, patient=None), 0.2))

    assert found(store)[0].name == keys(7).series.hex()[:12]


def test_names_in_the_clear_are_shown_where_they_are(database: Target) -> None:
    store = open_series_store(database, lambda path: PathMembership("T1", "monday", "sub-01"))
    add(store, "a.png", slice_of(None, 0.2))

    [row] = found(store)

    assert (row.name, row.study, row.patient) == ("T1", "monday", "sub-01")
    assert [one.name for one in found(store, text="SUB-01")] == ["T1"]
    store.close()


def test_series_is_complete_once_nothing_came_for_a_while(store: Store) -> None:
    [row] = found(store, labels=("tumour",))

    assert not row.is_complete(row.touched_us + 59_000_000, 60_000_000)
    assert row.is_complete(row.touched_us + 60_000_000, 60_000_000)
