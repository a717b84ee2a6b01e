"""`bt-daemon review`: what waits, CSV out and in, and what people said in `results` and `show`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from storage.database import open_reader
from storage.records import Failed, FailureKind, Status
from storage.reviews.answers import StoredReview
from storage.reviews.review_rows import review_rows
from storage.schema import ReviewAnswer, ReviewOrigin
from tests.support.databases import Target
from tests.support.stored_results import MODEL, Program, Ran, Store, judged

pytestmark = pytest.mark.databases

SCORING = replace(MODEL, positive="yes", threshold=0.5, uncertain_low=0.4, uncertain_high=0.6)
FORMULA = b"=cmd|' /C calc'!A0.png"


@pytest.fixture
def store(database: Target, tmp_path: Path) -> Store:
    """Five images: two uncertain, two sure, one that could not be judged."""
    made = Store(database, tmp_path / "inbox")
    made.put(
        [
            (b"a/low.png", judged("no", 0.95, score=0.05)),
            (b"a/doubt.png", judged("yes", 0.52, Status.UNCERTAIN, score=0.52)),
            (FORMULA, judged("no", 0.58, Status.UNCERTAIN, score=0.42)),
            (b"a/high.png", judged("yes", 0.9, score=0.9)),
            (b"a/broken.png", Failed(FailureKind.PERMANENT, "not an image")),
        ],
        model=SCORING,
    )
    return made


@pytest.fixture
def program(store: Store, capsys: pytest.CaptureFixture[str]) -> Program:
    """Return `bt-daemon` on that database."""
    return Program(store.path, capsys)


@pytest.fixture
def answer(program: Program, tmp_path: Path) -> Callable[..., Ran]:
    """Return what imports lines below a header."""

    def imported(*lines: str, head: str = "id,answer,class,note,reviewer") -> Ran:
        place = tmp_path / "answers.csv"
        place.write_text("\n".join((head, *lines)) + "\n")
        return program("review", "--import", str(place), "--reviewer", "ada")

    return imported


def _stored(store: Store, *, withdrawn: bool = False) -> list[StoredReview]:
    with closing(open_reader(store.path)) as connection:
        return list(review_rows(connection, withdrawn=withdrawn))


def test_the_queue_is_listed_uncertain_first_and_a_person_is_told_what_it_is(program: Program) -> None:
    ran = program("review")

    lines = [line.split() for line in ran.out.splitlines()]
    assert [line[0] for line in lines[1:]] == ["2", "3", "4", "1"]
    assert [line[-1] for line in lines] == ["why", "uncertain", "uncertain", "near", "near"]
    assert ran.err.startswith("2 uncertain images wait; 0 images reviewed.\n")
    assert "Not a medical device" in ran.err


def test_the_queue_can_be_narrowed_and_comes_in_every_format(program: Program) -> None:
    assert [row["id"] for row in json.loads(program("review", "--format", "json", "-n", "1").out)] == [2]
    assert program("review", "--queue", "near", "--format", "jsonl").out.count('"why": "near"') == 2
    assert program("review", "--queue", "uncertain", "--class", "yes", "--format", "csv").out.count("\n") == 2
    assert len(json.loads(program("review", "--queue", "random", "--format", "json").out)) == 4


def test_an_export_is_filled_in_and_imported_once(program: Program, store: Store, tmp_path: Path) -> None:
    place = tmp_path / "waits.csv"

    exported = program("review", "--export", str(place))
    rows = list(csv.DictReader(io.StringIO(place.read_text())))
    for row, said in zip(rows, ("no", "other-kind", "skip", ""), strict=True):
        row["answer"] = said
    with place.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], delimiter=";")  # as a spreadsheet may
        writer.writeheader()
        writer.writerows(rows)
    first, again = (program("review", "--import", str(place), "--reviewer", "ada") for _ in range(2))

    assert rows[1]["file"] == str(store.inbox / FORMULA.decode())
    assert exported.err.endswith(f"then: bt-daemon review --import {place}\n")
    assert first.out == "3 reviews added; 1 line without an answer\n"
    assert again.out == "0 reviews added; 3 known already; 1 line without an answer\n"
    assert [(one.file_id, one.answer, one.label, one.origin, one.reviewer) for one in _stored(store)] == [
        (2, ReviewAnswer.CLASS, "no", ReviewOrigin.UNCERTAIN, "ada"),
        (3, ReviewAnswer.OTHER_KIND, None, ReviewOrigin.UNCERTAIN, "ada"),
        (4, ReviewAnswer.SKIPPED, None, ReviewOrigin.NEAR, "ada"),
    ]


def test_what_was_said_goes_out_and_in_again_unchanged_however_hostile(
    program: Program, store: Store, answer: Callable[..., Ran], tmp_path: Path
) -> None:
    answer("2,yes,,'=1+1,+bob", '3,no,,"two\nlines, \x1b[31mred\u202e",', "4,skip,,,@eve")
    before, place = _stored(store), tmp_path / "done.csv"

    program("review", "--done", "--export", str(place))
    again = program("review", "--import", str(place))

    text = place.read_text()
    assert not [
        cell for row in csv.reader(io.StringIO(text)) for cell in row if cell[:1] in tuple("=+-@\t\r")
    ]
    assert "\x1b" not in text
    assert again.out == "0 reviews added; 3 known already\n"
    assert _stored(store, withdrawn=True) == before
    assert [one.note for one in before] == ["=1+1", "two\nlines, \x1b[31mred\u202e", ""]


def test_an_answer_changed_in_an_exported_file_replaces_the_one_before(
    program: Program, store: Store, answer: Callable[..., Ran], tmp_path: Path
) -> None:
    answer("2,yes,,,", "3,no,,,")
    place = tmp_path / "done.csv"
    program("review", "--done", "--export", str(place))
    place.write_text(place.read_text().replace("class,yes", "class,no"))

    ran = program("review", "--import", str(place))
    late = answer("2,yes,,,", "3,no,,,")

    assert ran.out == "1 review added; 1 known already\n"
    assert [(one.file_id, one.label) for one in _stored(store)] == [(3, "no"), (2, "no")]
    assert "1 imported before and undone or answered otherwise since, which stay so" in late.out
    assert len(_stored(store, withdrawn=True)) == 3


def test_one_bad_line_and_nothing_is_imported_each_is_named(
    program: Program, store: Store, answer: Callable[..., Ran]
) -> None:
    ran = answer(
        "2,yes,,,,,",
        "99,yes,,,,,",
        "3,glioma,,,,,",
        "5,yes,,,,,",
        "x,yes,,,,,",
        "4,yes,,,,/elsewhere/high.png,",
        "1,yes,,,,,other 1.0 deadbeef",
        head="id,answer,class,note,reviewer,file,model",
    )

    assert ran.code == 2
    assert ran.err.splitlines()[:6] == [
        "line 3: no image has the id 99",
        "line 4: the model has no class 'glioma'; answer no, yes, other-kind or skip",
        "line 5: image 5 could not be judged, so there is nothing to review",
        "line 6: the id 'x' is no number",
        f"line 7: image 4 is {store.inbox}/a/high.png in this database, not '/elsewhere/high.png'",
        "line 8: image 1 was not judged by 'other 1.0 deadbeef' but by brain-mri 1.0 a1b2c3d4",
    ]
    assert "nothing was imported: 6 lines of" in ran.err
    assert _stored(store) == []


def test_classes_are_taken_in_any_case_and_files_by_their_bare_name(
    store: Store, answer: Callable[..., Ran]
) -> None:
    ran = answer("2,YES,,,,doubt.png", head="id,answer,class,note,reviewer,file")

    assert ran.out == "1 review added\n"
    assert _stored(store)[0].label == "yes"


def test_a_random_export_that_is_answered_measures_the_model(program: Program, tmp_path: Path) -> None:
    place = tmp_path / "sample.csv"
    program("review", "--queue", "random", "--export", str(place))
    lines = place.read_text().splitlines()
    place.write_text("\n".join([lines[0], *(line.replace("random,", "random,yes") for line in lines[1:])]))

    program("review", "--import", str(place))
    figures = json.loads(program("review", "--summary", "--format", "json").out)

    found = {(one["images"], one["figure"]): (one["count"], one["of"]) for one in figures}
    assert found["random sample", "sensitivity"] == (2, 4)
    assert found["all answers", "agreement"] == (2, 4)
    assert ("random sample", "specificity") not in found


def test_results_and_show_tell_what_people_said(program: Program, answer: Callable[..., Ran]) -> None:
    answer("2,no,,a note,", "2,yes,,,bob", "3,no,,,", "4,other-kind,,,")

    def ids(word: str) -> list[int]:
        return [row["id"] for row in json.loads(program("results", "--review", word, "--format", "json").out)]

    reviewed = json.loads(program("results", "--format", "json", "--sort", "id", "--reverse").out)
    shown = json.loads(program("show", "2", "--json").out)["reviews"]

    assert (ids("agreed"), ids("corrected"), ids("other-kind"), ids("disputed")) == ([3], [4], [4], [2])
    assert ids("none") == [5, 1]
    assert [(row["reviewed"], row["reviewer"]) for row in reviewed] == [
        (None, None),
        ("disputed", "ada, bob"),
        ("no", "ada"),
        ("other-kind", "ada"),
        (None, None),
    ]
    assert [(one["said"], one["reviewer"], one["note"]) for one in shown] == [
        ("no", "ada", "a note"),
        ("yes", "bob", None),
    ]
    assert "no by ada, the network had said yes" in program("show", "2").out
    assert program("results", "--count", "--review", "reviewed").out == "3\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--import", "a.csv", "--export", "b.csv"], "--import and --export exclude each other"),
        (["--summary", "--export", "b.csv"], "--export and --summary exclude each other"),
        (["--review", "agreed"], "what waits has no review yet; --review goes with --done"),
        (["--import", "/nowhere.csv"], "cannot read /nowhere.csv: No such file or directory"),
        (["--import", "/"], "cannot read /: Is a directory"),
        (["--export", "/nowhere/a.csv"], "cannot write /nowhere/a.csv"),
    ],
)
def test_what_cannot_be_meant_is_one_line(program: Program, words: list[str], told: str) -> None:
    ran = program("review", *words)

    assert ran.code in (1, 2)
    assert told in ran.err
    assert ran.err.count("\n") == 1


def test_without_a_database_nothing_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from daemon.cli import main

    assert main(["review", "--format", "json"]) == 0
    assert capsys.readouterr().out == "[]\n"
    assert main(["--db", str(tmp_path / "no.db"), "review"]) == 3
