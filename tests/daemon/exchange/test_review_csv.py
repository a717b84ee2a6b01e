"""CSV of reviews: what people and spreadsheets make of it is understood, or refused with the line."""

from __future__ import annotations

import pytest

from config.errors import UsageError
from daemon.exchange.review_csv import ReviewFile, read_review_lines
from storage.schema import ReviewAnswer, ReviewOrigin

HEAD = "id,file,origin,answer,class,note,reviewer\n"


def _read(text: str) -> ReviewFile:
    return read_review_lines(text.encode(), "ada")


def _one(cells: str) -> ReviewFile:
    return _read(HEAD + cells + "\n")


@pytest.mark.parametrize(
    ("cells", "answer", "label"),
    [
        ("1,,,yes,,,", ReviewAnswer.CLASS, "yes"),
        ("1,,,,yes,,", ReviewAnswer.CLASS, "yes"),
        ("1,,,yes,yes,,", ReviewAnswer.CLASS, "yes"),
        ("1,,,class,skip,,", ReviewAnswer.CLASS, "skip"),
        ("1,,,other-kind,,,", ReviewAnswer.OTHER_KIND, None),
        ("1,,, Skip ,,,", ReviewAnswer.SKIPPED, None),
        ("1,,,'=yes,,,", ReviewAnswer.CLASS, "=yes"),
        ("1,,,'yes,,,", ReviewAnswer.CLASS, "'yes"),
    ],
)
def test_an_answer_is_a_class_or_a_word(cells: str, answer: ReviewAnswer, label: str | None) -> None:
    (line,) = _one(cells).lines

    assert (line.number, line.file_id, line.answer, line.label, line.reviewer) == (2, 1, answer, label, "ada")


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ("x,,,yes,,,", "the id 'x' is no number"),
        ("-1,,,yes,,,", "the id '-1' is no number"),
        (f"{'9' * 5000},,,yes,,,", f"the id '{'9' * 40}...' is no number"),
        ("\N{FULLWIDTH DIGIT ONE},,,yes,,,", "the id '\N{FULLWIDTH DIGIT ONE}' is no number"),
        ("1,,,yes,no,,", "'yes' in answer and 'no' in class exclude each other"),
        ("1,,,skip,no,,", "'skip' in answer and 'no' in class exclude each other"),
        ("1,,,class,,,", "answer says class, and the column class does not say which"),
        (f"1,,,yes,,{'n' * 65_537},", "the note has 65,537 characters, at most 65,536 go"),
        (f"1,,,yes,,,{'r' * 101}", "the reviewer's name has 101 characters, at most 100 go"),
        ("1,,,yes,,,a\x1b[2J", "the reviewer's name 'a\\x1b[2J' is none that can be shown"),
        ("1,,,yes,,,a\u202eb", "the reviewer's name 'a\\u202eb' is none that can be shown"),
        ("\x1b[2J,,,yes,,,", "the id '\\x1b[2J' is no number"),
        ("1\x00,,,yes,,,", "the id '1\\x00' is no number"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named_with_its_number(cells: str, why: str) -> None:
    found = _read(f"{HEAD}1,,,yes,,,\n{cells}\n")

    assert [str(one) for one in found.bad] == [f"line 3: {why}"]


def test_numbers_are_those_of_a_text_editor_though_notes_have_several_lines() -> None:
    found = _read(f'{HEAD}1,,,yes,,"a\nb\nc",\n\n2,,,yes,no,,\n')

    assert [line.note for line in found.lines] == ["a\nb\nc"]
    assert [one.number for one in found.bad] == [6]


def test_semicolons_tabs_a_byte_order_mark_and_carriage_returns_are_understood() -> None:
    for mark in ";\t":
        text = "\ufeff" + HEAD.replace(",", mark).replace("\n", "\r\n") + f"7{mark * 3}no{mark * 3}\r\n"
        (line,) = _read(text).lines
        assert (line.file_id, line.label) == (7, "no")


def test_origins_are_kept_and_others_are_imported() -> None:
    found = _one("1,,random,yes,,,\n2,,,yes,,,\n3,,=1+1,yes,,,")

    assert [line.origin for line in found.lines] == [
        ReviewOrigin.RANDOM,
        ReviewOrigin.IMPORTED,
        ReviewOrigin.IMPORTED,
    ]


def test_lines_without_an_answer_wait_and_a_contradiction_is_told() -> None:
    found = _one("1,,,,,,\n2,,,yes,,,\n2,,,no,,,\n2,,,no,,,bob\n3,,,no,,,\n3,,,no,,,")

    assert found.unanswered == 1
    assert [str(one) for one in found.bad] == ["line 4: says something else of image 2 than line 3"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the file is no CSV of reviews"),
        (b"id,file\n1,x\n", "the file is no CSV of reviews"),
        (b"id,answer,id\n", "the column id is there twice"),
        (b"id,answer\n1,yes\n2,\xff\n", "line 3 is not UTF-8"),
        ("id,answer\n1,yes\n".encode("utf-16"), "line 1 is not UTF-8"),
    ],
)
def test_a_file_that_is_none_is_refused_as_a_whole(data: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read_review_lines(data, "ada")


def test_a_quote_that_never_ends_is_told_with_its_line() -> None:
    found = _read(f'{HEAD}1,,,yes,,,\n2,,,yes,,"a\n3,,,no,,,\n')

    assert [line.file_id for line in found.lines] == [1]
    assert found.bad[0].number == 3
