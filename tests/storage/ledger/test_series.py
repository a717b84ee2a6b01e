"""Series keep one verdict that follows their rows, whatever happens to their slices."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from storage.database import open_writer
from storage.ledger.result_cache import KnownJudgements
from storage.ledger.votes import decoded, encoded
from storage.maintenance import check_backup as maintenance
from storage.maintenance.prune import prune
from storage.pseudonyms import pseudonym
from storage.records import Entry, FailureKind, Judged, Outcome, PathMembership
from tests.support.databases import Target
from tests.support.ledgers import Store
from tests.support.series import (
    OTHER_SERIES_MODEL,
    keys,
    open_series_store,
    slice_of,
    verdicts,
    verdicts_of_rows,
)
from trainer.model.series_rule import SeriesRule

pytestmark = pytest.mark.databases


@pytest.fixture
def store(database: Target) -> Iterator[Store]:
    store = open_series_store(database)
    yield store
    store.close()


def judge(store: Store, name: str, judged: Judged, model_id: int | None = None, size: int = 7_000) -> Entry:
    [entry] = store.ledger.add([store.version(name.encode(), size=size)])
    store.ledger.record([Outcome(entry.file_id, judged, None, 1_500)], model_id or store.model_id)
    return entry


def prune_elsewhere(store: Store, before_us: int) -> None:
    """Prune as another process does."""
    with closing(open_writer(store.path, checkpoints=False)) as connection:
        prune(connection, before_us, SeriesRule.from_json)


def test_series_has_one_verdict_whatever_order_its_slices_come_in(store: Store) -> None:
    scores = [0.02, 0.1, 0.97, 0.99, 0.98, 0.3, 0.05, 0.04]
    for number, order in enumerate((scores, scores[::-1], random.Random(1).sample(scores, len(scores)))):
        for place, score in enumerate(order):
            store.clock.advance(1)
            judge(store, f"{number}-{place}.dcm", slice_of(keys(number), score))

    found = verdicts(store.connection).values()
    told = [(one["label"], one["score"], one["slices"], one["loudest_score"]) for one in found]

    assert len(told) == 3
    assert len(set(told)) == 1
    assert told[0][0] == "tumour"
    assert told[0][2:] == (8, 0.99)
    assert verdicts(store.connection) == verdicts_of_rows(store.connection)


def test_slices_of_one_transaction_and_of_many_lead_to_the_same(store: Store) -> None:
    scores = [random.Random(2).random() for _ in range(40)]
    for place, score in enumerate(scores):
        judge(store, f"a{place}", slice_of(keys(0), score))
    entries = store.add(*(f"b{place}".encode() for place in range(40)))
    outcomes = [
        Outcome(entry.file_id, slice_of(keys(1), score)) for entry, score in zip(entries, scores, strict=True)
    ]

    store.ledger.record(outcomes, store.model_id)

    one, other = verdicts(store.connection).values()
    assert one["score"] == other["score"]
    assert verdicts(store.connection) == verdicts_of_rows(store.connection)


def test_outcome_that_is_recorded_again_has_no_second_vote(store: Store) -> None:
    entry = judge(store, "a", slice_of(keys(0), 0.9))
    judge(store, "b", slice_of(keys(0), 0.2))

    store.ledger.record([Outcome(entry.file_id, slice_of(keys(0), 0.9), None, 1_500)], store.model_id)

    [told] = verdicts(store.connection).values()
    assert told["slices"] == 2
    assert verdicts(store.connection) == verdicts_of_rows(store.connection)


def test_overwritten_slice_has_no_vote_any_more(store: Store) -> None:
    judge(store, "a", slice_of(keys(0), 0.99))
    judge(store, "b", slice_of(keys(0), 0.01))

    [entry] = store.ledger.add([store.version(b"a", size=8_000)])

    [told] = verdicts(store.connection).values()
    assert (told["slices"], told["loudest_score"]) == (1, 0.01)
    store.judge([entry], slice_of(keys(0), 0.02))
    [told] = verdicts(store.connection).values()
    assert told["slices"] == 2
    assert verdicts(store.connection) == verdicts_of_rows(store.connection)


def test_series_whose_only_slice_becomes_another_is_gone(store: Store) -> None:
    judge(store, "a", slice_of(keys(0), 0.99))

    store.ledger.add([store.version(b"a", size=8_000)])

    assert verdicts(store.connection) == {}


def test_rejected_slices_are_counted_and_have_no_vote(store: Store) -> None:
    for place in range(3):
        judge(store, f"r{place}", slice_of(keys(0), 0.99, rejected=True))

    [told] = verdicts(store.connection).values()
    assert (told["status"], told["label"], told["slices"], told["rejected"]) == ("rejected", None, 0, 3)

    judge(store, "a", slice_of(keys(0), 0.1))

    [told] = verdicts(store.connection).values()
    assert (told["status"], told["label"], told["slices"], told["rejected"]) == ("ok", "no_tumour", 1, 3)
    assert verdicts(store.connection) == verdicts_of_rows(store.connection)


def test_two_models_have_a_verdict_each(store: Store) -> None:
    other = store.ledger.model_id(OTHER_SERIES_MODEL)
    for place, score in enumerate((0.1, 0.9, 0.95)):
        entry = judge(store, f"a{place}", slice_of(keys(0), score))
        store.ledger.record([Outcome(entry.file_id, slice_of(keys(0), score))], other)

    first, second = verdicts(store.connection).values()

    assert first["score"] != second["score"]
    store.ledger.add([store.version(b"a0", size=8_000)])
    assert {one["slices"] for one in verdicts(store.connection).values()} == {2}
    assert verdicts(store.connection) == verdicts_of_rows(store.connection)


def test_volume_that_says_nothing_is_a_series_of_its_own(store: Store) -> None:
    rule = SeriesRule.from_json(OTHER_SERIES_MODEL.series_rule or "")
    votes = {rule.vote("tumour", 0.9): 4, rule.vote("no_tumour", 0.1): 2}
    volume = slice_of(None, 0.8, slice_index=3, slice_count=7, votes=votes)
    judge(store, "head.nii.gz", replace(volume, rejected=1))
    judge(store, "picture.png", slice_of(None, 0.8))

    [told] = verdicts(store.connection).values()

    assert (told["slices"], told["rejected"], told["files"]) == (6, 1, 1)
    assert verdicts(store.connection) == verdicts_of_rows(store.connection)


def test_path_says_more_than_the_file(database: Target) -> None:
    def read_path(path: bytes) -> PathMembership | None:
        return PathMembership("scan", "monday", "p7", 3.0) if path.startswith(b"p7") else None

    store = open_series_store(database, read_path)
    judge(store, "p7-a", slice_of(keys(0), 0.9))
    judge(store, "p7-b", slice_of(keys(1), 0.9))
    judge(store, "else", slice_of(keys(2), 0.9))

    rows = store.connection.exec_driver_sql(
        "SELECT name, study_name, patient_name, origin FROM series ORDER BY id"
    ).all()

    assert [tuple(row) for row in rows] == [("scan", "monday", "p7", 2), (None, None, None, 1)]
    assert sorted(one["files"] for one in verdicts(store.connection).values()) == [1, 2]
    store.connection.rollback()
    store.close()


def test_tags_that_are_asked_for_name_the_series_in_the_clear(store: Store) -> None:
    tags = {"SeriesInstanceUID": "1.2.3", "PatientID": "0815", "EchoTime": "90"}
    judge(store, "a", slice_of(keys(0), 0.9, tags=tags))

    assert series_names(store) == [("1.2.3", None, "0815")]


def test_tags_that_are_asked_for_later_name_a_series_that_is_known(store: Store) -> None:
    judge(store, "a", slice_of(keys(0), 0.9))
    store.close()
    again = open_series_store(store.path)

    judge(again, "b", slice_of(keys(0), 0.9, tags={"SeriesInstanceUID": "1.2.3"}))

    assert series_names(again) == [("1.2.3", None, None)]
    again.close()


def series_names(store: Store) -> list[tuple[str | None, ...]]:
    rows = store.connection.exec_driver_sql("SELECT name, study_name, patient_name FROM series").all()
    store.connection.rollback()
    return [tuple(row) for row in rows]


@pytest.mark.databases("sqlite")  # known bytes are asked of files alone
def test_known_bytes_keep_their_series_votes_and_place(store: Store) -> None:
    votes = {5: 2, 9: 1}
    entry = store.add(b"a")[0]
    judged = slice_of(keys(3, 12.5), 0.7, slice_index=1, slice_count=4, votes=votes)
    store.ledger.record([Outcome(entry.file_id, replace(judged, rejected=1), b"\7" * 32)], store.model_id)

    with KnownJudgements(store.path, store.model_id) as known:
        [found] = known.find([b"\7" * 32]).values()

    assert (found.series, found.votes, found.rejected) == (keys(3, 12.5), votes, 1)


def test_series_by_path_is_not_taken_over_with_known_bytes(tmp_path: Path) -> None:
    store = open_series_store(tmp_path / "results.db", lambda path: PathMembership("scan"))
    store.judge(store.add(b"a"), slice_of(None, 0.7), b"\7" * 32)

    with KnownJudgements(store.path, store.model_id) as known:
        [found] = known.find([b"\7" * 32]).values()

    assert found.series is None
    store.close()


def test_pruned_slices_leave_the_verdict_of_the_others(store: Store) -> None:
    judge(store, "a", slice_of(keys(0), 0.99))
    judge(store, "only", slice_of(keys(1), 0.99))
    store.clock.advance(60)
    judge(store, "b", slice_of(keys(0), 0.2))
    store.clock.advance(60)

    prune_elsewhere(store, store.clock.now_us - 90_000_000)

    [told] = verdicts(store.connection).values()
    assert (told["slices"], told["loudest_score"]) == (1, 0.2)
    assert verdicts(store.connection) == verdicts_of_rows(store.connection)
    [count] = store.connection.exec_driver_sql("SELECT count(*) FROM series").one()
    assert count == 1
    store.connection.rollback()
    assert store.is_sound()


def test_series_that_another_process_pruned_is_made_anew(store: Store) -> None:
    judge(store, "a", slice_of(keys(0), 0.99))
    store.clock.advance(60)
    prune_elsewhere(store, store.clock.now_us)

    judge(store, "b", slice_of(keys(0), 0.4))

    [told] = verdicts(store.connection).values()
    assert told["slices"] == 1
    assert verdicts(store.connection) == verdicts_of_rows(store.connection)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_verdicts_follow_the_rows_through_anything(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    models = [store.model_id, store.ledger.model_id(OTHER_SERIES_MODEL)]
    for step in range(150):
        store.clock.advance(chance.choice((0, 1, 30)))
        name = f"{chance.randrange(25)}"
        size = chance.choice((7_000, 7_000, 8_000))
        entries = store.ledger.add([store.version(name.encode(), size=size)]) or store.due()
        judged = slice_of(
            keys(chance.randrange(4), step) if chance.random() < 0.9 else None,
            chance.random(),
            rejected=chance.random() < 0.2,
        )
        for entry in entries[:2]:
            if chance.random() < 0.1:
                store.fail(entry, FailureKind.PERMANENT)
                store.ledger.requeue([entry.file_id])
            else:
                store.ledger.record([Outcome(entry.file_id, judged)], chance.choice(models))
        if chance.random() < 0.05:
            store.ledger.reclassify(models[1])
        if chance.random() < 0.03:
            prune_elsewhere(store, store.clock.now_us - chance.randrange(600) * 1_000_000)
        assert verdicts(store.connection) == verdicts_of_rows(store.connection), step


def test_nothing_of_a_rolled_back_series_is_believed(store: Store) -> None:
    entries = store.add(b"a", b"b")

    def fail_halfway() -> None:
        with store.ledger.transaction():
            store.ledger.record([Outcome(entries[0].file_id, slice_of(keys(0), 0.9))], store.model_id)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()

    assert verdicts(store.connection) == {}
    store.judge(entries, slice_of(keys(0), 0.9))
    assert verdicts(store.connection) == verdicts_of_rows(store.connection)


def test_pseudonyms_differ_between_databases_and_stay_within_one(tmp_path: Path) -> None:
    secrets = []
    for name in ("one.db", "two.db", "one.db"):
        store = open_series_store(tmp_path / name)
        with store.ledger.transaction():
            secrets.append(store.ledger.series.secret())
        store.close()

    one, two, again = (pseudonym(secret, "patient", "0815") for secret in secrets)
    assert one == again != two
    assert pseudonym(secrets[0], "study", "0815") != one
    assert pseudonym(secrets[0], "patient", "08", "15") != pseudonym(secrets[0], "patient", "081", "5")


def test_votes_survive_the_way_to_bytes_and_back() -> None:
    votes = {0: 1, 7: 300, 4_000_000_001: 4_000_000_000}

    assert decoded(encoded(votes, 12)) == (votes, 12)
    assert decoded(encoded({})) == ({}, 0)


def test_volumes_of_an_older_database_keep_their_answers(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    schema = Path(__file__).parents[2] / "schemas" / "0001.sql"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema.read_text())
        connection.execute("UPDATE result SET slice_index = 4, slice_count = 22 WHERE status = 0")
        before = connection.execute(
            "SELECT status, label_id, confidence, slice_count FROM result WHERE slice_count > 1 ORDER BY id"
        ).fetchall()
        connection.commit()
    assert before

    maintenance.migrate(path)

    with closing(sqlite3.connect(path)) as connection:
        after = connection.execute(
            "SELECT v.status, v.label_id, v.confidence, v.slices FROM series_verdict AS v ORDER BY series_id"
        ).fetchall()
        assert after == before
    store = open_series_store(path)
    kept = verdicts(store.connection)
    store.ledger.series.files_changed(
        [row[0] for row in store.connection.exec_driver_sql("SELECT file_id FROM result").all()]
    )
    assert verdicts(store.connection) == kept
    store.close()
