"""How sure a result is: one score, what it was compared with, and the most doubtful first."""

from __future__ import annotations

import json
import math
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.output.words import SCORE, score_of
from storage.database import open_reader
from storage.queries.results import ResultRow, count, rows
from storage.query import Query, Sort
from storage.records import Failed, FailureKind, Judged, Status
from tests.support.databases import Target, raw
from tests.support.stored_results import MODEL, Program, Store, judged, run_in_terminal
from trainer.images.phantom import phantom
from trainer.model.identity import default_weights
from trainer.model.weights import read_spec

pytestmark = pytest.mark.databases

TUMOURS = replace(MODEL, positive="yes", threshold=0.27, uncertain_low=0.12, uncertain_high=0.42)
FOUR = replace(
    MODEL, weights_sha256="44" * 32, classes=("a", "b", "c", "d"), uncertain_low=0.5, uncertain_high=0.5
)


@pytest.fixture
def store(database: Target, tmp_path: Path) -> Store:
    return Store(database, tmp_path / "inbox")


def _rows(store: Store, query: Query | None = None) -> list[ResultRow]:
    with closing(open_reader(store.path)) as reader:
        return list(rows(reader, query or Query()))


@pytest.mark.defects(30)
def test_a_row_has_its_score_and_what_it_was_compared_with(store: Store) -> None:
    unlike = Judged(Status.REJECTED, None, None, "unlike", score=0.61)
    store.put([(b"a", judged("yes", 0.282, Status.UNCERTAIN, score=0.282)), (b"b", unlike)], model=TUMOURS)

    rejected, unsure = _rows(store)

    assert (unsure.score, unsure.positive, unsure.threshold) == (0.282, "yes", 0.27)
    assert (unsure.uncertain_low, unsure.uncertain_high) == (0.12, 0.42)
    assert (rejected.label, rejected.score) == (None, 0.61)


@pytest.mark.defects(30)
def test_an_older_row_of_two_classes_has_the_score_that_label_and_confidence_tell(store: Store) -> None:
    store.put([(b"a", judged("yes", 0.9)), (b"b", judged("no", 0.854))], model=TUMOURS)
    store.put([(b"c", Failed(FailureKind.PERMANENT, "no image"))], model=TUMOURS)

    assert [row.score for row in _rows(store)] == [None, pytest.approx(0.146), 0.9]


@pytest.mark.defects(30)
def test_a_score_that_nobody_can_know_is_absent(store: Store) -> None:
    store.put([(b"a", judged("yes", 0.9))])  # no daemon has said yet what the model looks for
    store.put([(b"b", judged("c", 0.4))], model=replace(FOUR, positive="a", threshold=0.5))

    assert [row.score for row in _rows(store)] == [None, None]


def test_the_score_of_a_model_without_a_class_of_interest_is_its_likeliest_class(store: Store) -> None:
    store.put([(b"a", judged("c", 0.4))], model=FOUR)

    (row,) = _rows(store)

    assert (row.score, row.positive, row.threshold) == (0.4, None, None)


@pytest.mark.defects(30)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_most_doubtful_come_first_and_pages_go_on_behind_them(store: Store, reverse: bool) -> None:
    scores = [0.05, 0.9, 0.28, 0.26, 0.5, 0.1]
    store.put(
        [(b"%.2f" % one, judged("yes" if one > 0.27 else "no", one, score=one)) for one in scores],
        model=TUMOURS,
    )
    store.put([(b"error", Failed(FailureKind.PERMANENT, "no image"))], model=TUMOURS)
    store.put([(b"unlike", Judged(Status.REJECTED, None, None, "unlike", score=0.27))], model=TUMOURS)

    query = Query(sort=Sort.DOUBT, reverse=reverse, limit=3)
    found: list[ResultRow] = []
    while page := _rows(store, query):
        found += page
        query = replace(query, after=page[-1].key(Sort.DOUBT))

    names = [row.path.decode() for row in found]
    if reverse:
        names.reverse()
    assert set(names[:2]) == {"0.26", "0.28"}
    assert names[2:6] == ["0.10", "0.05", "0.50", "0.90"]
    assert set(names[6:]) == {"error", "unlike"}


def test_scores_can_be_filtered_and_counted(store: Store) -> None:
    store.put([(b"a", judged("yes", 0.9, score=0.9)), (b"b", judged("no", 0.8))], model=TUMOURS)

    with closing(open_reader(store.path)) as reader:
        assert count(reader, Query(min_score=0.15)) == 2
        assert count(reader, Query(min_score=0.21)) == 1
        assert count(reader, Query(max_score=0.21)) == 1
    assert [row.path for row in _rows(store, Query(sort=Sort.SCORE))] == [b"a", b"b"]


@pytest.mark.defects(30)
def test_rows_of_the_first_schema_have_a_score_once_a_daemon_has_used_their_model(store: Store) -> None:
    store.put([(b"a", judged("no", 0.75))])
    raw(store.path, "UPDATE result SET score = NULL")
    before = _rows(store)

    store.put([(b"b", judged("yes", 0.5, score=0.5))], model=TUMOURS)

    assert [row.score for row in before] == [None]
    assert [row.score for row in _rows(store)] == [0.5, 0.25]


@pytest.mark.defects(30)
def test_a_terminal_shows_the_score_and_below_it_what_it_is_compared_with(store: Store) -> None:
    store.put(
        [
            (b"sure.png", judged("no", 0.98, score=0.02)),
            (b"unsure.png", judged("yes", 0.282, Status.UNCERTAIN, score=0.282)),
            (b"unlike.png", Judged(Status.REJECTED, None, None, "unlike", score=0.61)),
        ],
        model=TUMOURS,
    )

    shown = run_in_terminal("results", "--db", str(store.path), "--no-color", columns=110)
    by_doubt = run_in_terminal("results", "--db", str(store.path), "--sort", "doubt", "--no-color")

    header, _, unlike, _, unsure, sure = shown.splitlines()[1:7]
    assert header.split()[-3:] == ["score", "status", "model"]
    assert unlike.split()[4:6] == ["-", "0.610"]
    assert unsure.split()[4:7] == ["yes", "0.282", "uncertain"]
    assert sure.split()[4:7] == ["no", "0.020", "ok"]
    words = "score: calibrated probability of 'yes'; 'yes' from 0.27, uncertain between 0.12 and 0.42"
    assert f"\n{words} (brain-mri)\n" in shown
    assert [line.split()[3] for line in by_doubt.splitlines()[3:5]] == ["unsure.png", "sure.png"]


@pytest.mark.defects(30)
@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "tsv"])
def test_programs_get_the_score_in_columns_at_the_end(
    store: Store, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put([(b"a.png", judged("yes", 0.282, Status.UNCERTAIN, score=0.282))], model=TUMOURS)

    out = Program(store.path, capsys)("results", "--format", form).out

    if form in ("json", "jsonl"):
        row = json.loads(out.strip("[]\n"))
        wanted = {"confidence": 0.282, "score": 0.282, "threshold": 0.27, "positive": "yes"}
        assert row.items() >= {**wanted, "uncertain_low": 0.12, "uncertain_high": 0.42}.items()
        scores = ["score", "threshold", "positive", "uncertain_low", "uncertain_high"]
        assert list(row)[-7:] == [*scores, "reviewed", "reviewer"]
    else:
        header, line = (one.split("," if form == "csv" else "\t") for one in out.splitlines())
        assert header[4:5] + header[-3:] == ["confidence", "score", "threshold", "positive"]
        assert line[4:5] + line[-3:] == ["0.282", "0.282", "0.27", "yes"]


def test_one_sentence_says_what_a_score_is(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    told = " ".join(Program(store.path, capsys)("results", "--help").out.split())

    assert SCORE[1:] in told


@pytest.mark.parametrize(
    ("positive", "threshold", "band", "words"),
    [
        ("yes", 0.2726, (0.1226, 0.4), "of 'yes'; 'yes' from 0.272, uncertain between 0.122 and 0.4"),
        ("yes", 0.5, (0.5, 0.5), "of 'yes'; 'yes' from 0.5"),
        (None, None, (0.4, 0.6), "of the likeliest class; uncertain between 0.4 and 0.6"),
        (None, None, (0.5, 0.5), "of the likeliest class"),
        ("a\x1b", 1.0, (0.0, 1.0), "of 'a\\x1b'; 'a\\x1b' from 1, uncertain between 0 and 1"),
    ],
)
def test_what_a_score_is_compared_with_is_told_in_short(
    positive: str | None, threshold: float | None, band: tuple[float, float], words: str
) -> None:
    low, high = band
    one = replace(MODEL, positive=positive, threshold=threshold, uncertain_low=low, uncertain_high=high)

    assert score_of(one) == f"calibrated probability {words}"


def test_of_a_model_of_the_first_schema_nothing_is_said() -> None:
    assert score_of(MODEL) == ""


@pytest.mark.slow
@pytest.mark.defects(30)
def test_classify_tells_the_score_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phantom(1, lesion=True).save(tmp_path / "slice.png")

    assert main(["classify", str(tmp_path / "slice.png"), "--format", "json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert main(["classify", str(tmp_path / "slice.png")]) == 0
    table = capsys.readouterr()

    decision = read_spec(default_weights()).decision
    assert told["positive"] == decision.positive == "yes"
    assert told["threshold"] == pytest.approx(decision.threshold, abs=1e-6)
    assert told["class"] is None or (told["class"] == "yes") is (told["score"] >= told["threshold"])
    assert table.out.splitlines()[0].split() == ["file", "class", "score", "status", "reason", "model"]
    shown = math.floor(decision.threshold * 1000) / 1000  # never above what decides
    assert f"score: calibrated probability of 'yes'; 'yes' from {shown:.3f}" in table.err
