"""Reviews are stored once, beside the results, and what stands is each reviewer's last word."""

from __future__ import annotations

import uuid
from contextlib import closing
from pathlib import Path

import pytest

from config.errors import UsageError
from config.files import flush
from storage.database import open_reader
from storage.database_errors import DatabaseMissingError, DatabaseTooOldError
from storage.records import Judged, Status
from storage.reviews.answers import Review
from storage.reviews.review_rows import review_rows, reviews_of
from storage.reviews.review_writer import ReviewWriter
from storage.schema import ReviewAnswer, ReviewOrigin
from tests.support.databases import Target, is_server
from tests.support.ledgers import MODEL, Store, open_store, raw

pytestmark = pytest.mark.databases

AT_US = 1_790_000_100_000_000


@pytest.fixture
def store(database: Target) -> Store:
    """Three images: one sure, one uncertain, one rejected."""
    store = open_store(database)
    sure, doubtful, other = store.add(b"sure.png", b"doubtful.png", b"other.png")
    store.judge([sure])
    store.judge([doubtful], Judged(Status.UNCERTAIN, "no_tumour", 0.55, score=0.45))
    store.judge([other], Judged(Status.REJECTED, None, None, "unlike"))
    return store


def said(
    file_id: int, label: str | None, reviewer: str = "ada", request: bytes | None = None, note: str = ""
) -> Review:
    """Return an answer: a class, or (None) that the image is of another kind."""
    answer = ReviewAnswer.OTHER_KIND if label is None else ReviewAnswer.CLASS
    request = request or uuid.uuid4().bytes
    return Review(
        request, file_id, MODEL.weights_sha256, reviewer, answer, AT_US, ReviewOrigin.CHOSEN, label, note
    )


def standing(store: Store) -> list[tuple[int, str, str | None]]:
    with closing(open_reader(store.path)) as reader:
        return [(row.file_id, row.reviewer, row.label) for row in review_rows(reader)]


def test_answer_is_read_back_with_what_the_model_had_said(store: Store) -> None:
    answer = said(2, "tumour", note="left\nside")

    [added] = ReviewWriter(str(store.path)).add([answer])

    with closing(open_reader(store.path)) as reader:
        [row] = reviews_of(reader, 2)
    assert (added.review_id, added.is_new) == (row.id, True)
    assert (row.path, row.label, row.note, row.request_id) == (
        b"doubtful.png", "tumour", "left\nside", answer.request_id,
    )  # fmt: skip
    assert (row.shown_label, row.shown_status, row.agrees) == ("no_tumour", Status.UNCERTAIN, False)
    assert row.stands
    store.close()


def test_request_made_twice_is_one_review_even_after_it_was_taken_back(store: Store) -> None:
    writer, answer = ReviewWriter(str(store.path)), said(1, "tumour")
    [first] = writer.add([answer])

    [again] = writer.add([answer])
    undone = writer.withdraw("ada", answer.request_id, AT_US + 1)
    [replayed] = writer.add([answer])

    assert (again.review_id, again.is_new, undone) == (first.review_id, False, True)
    assert (replayed.review_id, replayed.is_new) == (first.review_id, False)
    assert standing(store) == []
    assert not writer.withdraw("ada", answer.request_id, AT_US + 2)
    store.close()


def test_later_answer_of_the_same_reviewer_takes_the_place_of_the_earlier_one(store: Store) -> None:
    writer = ReviewWriter(str(store.path))
    writer.add([said(1, "tumour"), said(1, "tumour", "bob")])

    writer.add([said(1, "no_tumour")])

    assert standing(store) == [(1, "bob", "tumour"), (1, "ada", "no_tumour")]
    with closing(open_reader(store.path)) as reader:
        assert [row.stands for row in reviews_of(reader, 1)] == [False, True, True]
    store.close()


def test_nobody_takes_back_what_another_said(store: Store) -> None:
    writer, answer = ReviewWriter(str(store.path)), said(1, "tumour")
    writer.add([answer])

    assert not writer.withdraw("bob", answer.request_id, AT_US)

    assert standing(store) == [(1, "ada", "tumour")]
    store.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (said(1, "cat"), "has no class 'cat'; its classes are no_tumour, tumour"),
        (said(99, "tumour"), "has not judged file 99"),
        (said(1, "tumour", reviewer=" "), "needs the name"),
        (said(1, "tumour", reviewer="x" * 101), "101 characters"),
        (said(1, "tumour", note="x" * 65_537), "65,537 characters"),
        (said(1, "tumour", request=b"short"), "16 bytes"),
        (said(1, "tumour", reviewer="eve\u202e"), "cannot be shown"),
        (said(1, "tumour", reviewer=" ada"), "blanks around it"),
        (said(1, "tumour", note="half \ud800"), "no text"),
        (said(1 << 70, "tumour"), "no file 1180591620717411303424"),
        (said(-1, "tumour"), "no file -1"),
    ],
    ids=[
        "class",
        "file",
        "nobody",
        "long-name",
        "long-note",
        "request",
        "bidi",
        "blanks",
        "surrogate",
        "huge",
        "negative",
    ],
)
def test_answer_that_cannot_be_is_refused_and_nothing_of_its_batch_is_stored(
    store: Store, answer: Review, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        ReviewWriter(str(store.path)).add([said(1, "tumour"), answer])

    assert standing(store) == []
    store.close()


def test_request_of_another_answer_is_refused(store: Store) -> None:
    writer, answer = ReviewWriter(str(store.path)), said(1, "tumour")
    writer.add([answer])

    with pytest.raises(UsageError, match="made before, for another answer"):
        writer.add([said(1, "no_tumour", request=answer.request_id)])

    assert standing(store) == [(1, "ada", "tumour")]
    store.close()


def test_note_is_read_back_as_it_was_written(store: Store) -> None:
    notes = ["x" * 65_536, "<script>alert(1)</script>\0\r\n\u202e\U0001f9e0'\"; DROP TABLE review; --"]
    writer = ReviewWriter(str(store.path))
    writer.add([said(number, "tumour", note=note) for number, note in enumerate(notes, 1)])

    with closing(open_reader(store.path)) as reader:
        told = [row.note for row in review_rows(reader)]
    # PostgreSQL has no character NUL.
    assert told == ([note.replace("\0", "\ufffd") for note in notes] if is_server(store.path) else notes)
    store.close()


def test_nothing_to_store_is_no_fault(store: Store) -> None:
    assert ReviewWriter(str(store.path)).add([]) == []
    store.close()


@pytest.mark.databases("sqlite")
def test_log_is_flushed_where_a_link_leads_and_is_gone_when_nobody_else_has_it_open(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    link = tmp_path / "other" / "link.db"
    link.parent.mkdir()
    link.symlink_to(store.path)
    flushed = []

    def noted(path: Path) -> None:
        flushed.append(path)
        flush(path)

    monkeypatch.setattr("storage.reviews.review_writer.flush", noted)
    ReviewWriter(str(link)).add([said(1, "tumour")])

    assert flushed == [tmp_path / "results.db-wal"]
    assert not flushed[0].exists()
    assert standing(store) == [(1, "ada", "tumour")]


def test_database_that_is_not_there_or_of_an_older_schema_is_refused(store: Store, tmp_path: Path) -> None:
    store.close()
    raw(store.path, "UPDATE alembic_version SET version_num = '0003'")

    with pytest.raises(DatabaseTooOldError, match="bt-daemon db migrate"):
        ReviewWriter(str(store.path)).add([said(1, "tumour")])
    with pytest.raises(DatabaseMissingError):
        ReviewWriter(str(tmp_path / "none.db")).add([said(1, "tumour")])
    assert not (tmp_path / "none.db").exists()
