"""`bt-daemon results --by`: answers of series, studies and patients, in every format."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import Target
from tests.support.ledgers import Store
from tests.support.series import keys, open_series_store, slice_of
from tests.support.stored_results import Program

pytestmark = pytest.mark.databases


@pytest.fixture
def store(database: Target) -> Iterator[Store]:
    """Three series of two patients; the last one is all rejected."""
    store = open_series_store(database)
    for number, scores in enumerate(((0.1, 0.2), (0.9, 0.95, 0.99), (0.99,))):
        store.clock.advance(60)
        for place, score in enumerate(scores):
            [entry] = store.add(b"%d-%d.dcm" % (number, place))
            store.judge([entry], slice_of(keys(number, place), score, rejected=number == 2))
    yield store
    store.close()


@pytest.fixture
def program(store: Store, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(store.path, capsys)


def told(program: Program, *options: str) -> list[dict[str, Any]]:
    ran = program("results", "--format", "json", *options)
    assert ran.code == 0, ran.err
    found: list[dict[str, Any]] = json.loads(ran.out)
    return found


def test_series_are_listed_with_their_answer_and_what_it_rests_on(program: Program) -> None:
    last, middle, _ = told(program, "--by", "series")

    assert (last["status"], last["class"], last["slices"], last["rejected"]) == ("rejected", None, 0, 1)
    assert (middle["class"], middle["slices"], middle["series_count"]) == ("tumour", 3, 1)
    assert middle["file"] == "/inbox/1-2.dcm"
    assert middle["threshold"] == 0.4


def test_studies_and_patients_are_answered_by_their_loudest_series(program: Program) -> None:
    assert [row["class"] for row in told(program, "--by", "patient", "--sort", "score")] == ["tumour", None]
    assert [row["series_count"] for row in told(program, "--by", "patient", "--sort", "score")] == [2, 1]
    assert len(told(program, "--by", "study")) == 3


def test_every_filter_and_the_count_are_about_series(program: Program) -> None:
    assert [row["id"] for row in told(program, "--by", "series", "--class", "TUMOUR")] == [2]
    assert [row["id"] for row in told(program, "--by", "series", "--status", "rejected")] == [3]
    assert [row["id"] for row in told(program, "--by", "series", "-n", "1")] == [3]
    assert program("results", "--by", "patient", "--count").out == "2\n"
    summary = told(program, "--by", "series", "--summary")
    assert sorted((row["class"] or "", row["count"]) for row in summary) == [
        ("", 1),
        ("no_tumour", 1),
        ("tumour", 1),
    ]


@pytest.mark.parametrize("form", ["csv", "tsv", "table", "jsonl"])
def test_every_text_format_has_the_columns_that_are_asked_for(program: Program, form: str) -> None:
    columns = ("--columns", "series,class,slices")

    text = program("results", "--by", "series", "--class", "tumour", "--format", form, *columns).out

    if form == "jsonl":
        assert json.loads(text) == {"series": "0" * 12, "class": "tumour", "slices": 3}
    else:
        lines = list(csv.reader(io.StringIO(text), delimiter={"csv": ",", "tsv": "\t"}.get(form, " ")))
        cells = [[cell for cell in line if cell] for line in lines[:2]]
        assert cells == [["series", "class", "slices"], ["0" * 12, "tumour", "3"]]


def test_parquet_keeps_the_kinds_of_columns(program: Program, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    done = program("results", "--by", "series", "-o", str(tmp_path / "series.parquet"))

    assert done.code == 0, done.err
    table = parquet.read_table(tmp_path / "series.parquet")
    assert table.column("slices").to_pylist() == [0, 3, 2]
    assert table.column("complete").to_pylist() == [True, True, True]


def test_series_to_which_slices_may_still_come_is_not_complete(program: Program) -> None:
    years = str(50 * 365 * 24)

    assert {row["complete"] for row in told(program, "--by", "series", "--series-quiet", f"{years}h")} == {
        False
    }


def test_following_series_is_refused_with_the_next_step(program: Program) -> None:
    done = program("results", "--by", "series", "--follow")

    assert done.code == 2
    assert "--follow shows images" in done.err


def test_column_that_series_do_not_have_is_refused_with_those_they_have(program: Program) -> None:
    done = program("results", "--by", "series", "--columns", "slice_index")

    assert done.code == 2
    assert "series_count" in done.err


def test_without_any_series_it_says_how_there_would_be_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = open_series_store(tmp_path / "empty.db")
    empty.judge(empty.add(b"a.png"), slice_of(None, 0.5))

    ran = Program(empty.path, capsys)("results", "--by", "series")

    assert ran.code == 0
    assert "watch --series" in ran.err
    empty.close()
