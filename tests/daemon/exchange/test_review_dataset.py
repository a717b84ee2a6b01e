"""Dataset of reviews: what may be trained on is there, whole, and nothing else is touched."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from config.errors import BtError, UsageError
from daemon.exchange.review_dataset import (
    DatasetRequest,
    DatasetWritten,
    NotExported,
    is_review_dataset,
    next_commands,
    write_review_dataset,
)
from storage.database import open_reader
from storage.queries.statistics import model_classes
from storage.records import FileVersion, Outcome
from storage.reviews.answers import Review
from storage.reviews.review_rows import review_rows
from storage.reviews.review_writer import ReviewWriter
from storage.schema import ReviewAnswer, ReviewOrigin
from tests.support.ledgers import MODEL, OTHER_MODEL, Store
from tests.support.series import keys, open_series_store, slice_of
from trainer.images.picture import Limits


@dataclass
class People:
    """An inbox of files, judged, and people who say what they are."""

    store: Store
    inbox: Path

    def put(self, name: str, data: bytes | None = None, **judged: Any) -> int:
        """Judge a file of the inbox; return its id."""
        place, content = self.inbox / name, name.encode() if data is None else data
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        ledger = self.store.ledger
        folder, _, last = name.rpartition("/")
        with ledger.transaction():
            inbox_id = ledger.inbox_id(os.fsencode(self.inbox))
            version = FileVersion(inbox_id, folder.encode(), os.fsencode(last), len(content), 1, 1)
            (entry,) = ledger.add([version])
        judgement = slice_of(judged.pop("series", None), 0.9, **judged)
        outcome = Outcome(entry.file_id, judgement, hashlib.sha256(content).digest())
        ledger.record([outcome], self.store.model_id)
        return entry.file_id

    def say(self, file_id: int, what: str, reviewer: str = "ada", **more: Any) -> None:
        """Store an answer: a class (`is_class`: whatever it is called), other-kind or skip."""
        answers = {"other-kind": ReviewAnswer.OTHER_KIND, "skip": ReviewAnswer.SKIPPED}
        answer = ReviewAnswer.CLASS if more.get("is_class") else answers.get(what, ReviewAnswer.CLASS)
        review = Review(
            request_id=uuid.uuid4().bytes,
            file_id=file_id,
            weights_sha256=more.get("weights", MODEL.weights_sha256),
            reviewer=reviewer,
            answer=answer,
            at_us=1,
            origin=ReviewOrigin.CHOSEN,
            label=what if answer is ReviewAnswer.CLASS else None,
        )
        ReviewWriter(str(self.store.path)).add([review])

    def export(self, folder: Path, *, is_linked: bool = False) -> DatasetWritten:
        """Write the dataset."""
        with closing(open_reader(self.store.path)) as connection:
            found, classes = list(review_rows(connection)), model_classes(connection)
        request = DatasetRequest(classes, Limits(), is_linked, lambda _, __: None)
        return write_review_dataset(found, folder, request)


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    """Return an empty inbox."""
    store = open_series_store(tmp_path / "x.db")
    (tmp_path / "in").mkdir()
    yield People(store, tmp_path / "in")
    store.close()


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_classes_are_folders_and_what_is_of_another_kind_is_on_the_exclude_list(
    people: People, tmp_path: Path
) -> None:
    for number, said in enumerate(("tumour", "no_tumour", "other-kind"), 1):
        people.say(people.put(f"slice {number}.PNG"), said)

    done = people.export(tmp_path / "out")

    assert _files(tmp_path / "out") == [
        "dataset.json",
        "exclude.csv",
        "groups.csv",
        "no_tumour/2.png",
        "other-kind/3.png",
        "tumour/1.png",
    ]
    assert (tmp_path / "out" / "tumour" / "1.png").read_bytes() == b"slice 1.PNG"
    assert (dict(done.classes), done.to_reject, done.left_out) == ({"no_tumour": 1, "tumour": 1}, 1, {})
    assert [row["file"] for row in _table(tmp_path / "out" / "exclude.csv")] == ["out/other-kind/3.png"]
    assert all("--exclude-list" in line for line in next_commands(done, tmp_path / "out"))
    assert is_review_dataset(tmp_path / "out")
    assert (tmp_path / "out" / "tumour" / "1.png").stat().st_mode & 0o777 == 0o600


def test_groups_tell_patient_series_and_position_and_no_name(people: People, tmp_path: Path) -> None:
    of_series = [people.put(f"Jane Doe {n}.dcm", series=keys(4, position=1.5 * n)) for n in range(2)]
    other, alone = people.put("b.dcm", series=keys(5, position=3.0)), people.put("c.png")
    for file_id in (*of_series, other, alone):
        people.say(file_id, "tumour")

    people.export(tmp_path / "out")

    rows = _table(tmp_path / "out" / "groups.csv")
    assert len({row["patient"] for row in rows[:3]}) == 1
    assert len(rows[0]["patient"]) == 32
    assert rows[0]["series"] == rows[1]["series"] != rows[2]["series"]
    assert [row["position"] for row in rows] == ["0", "1.5", "3", ""]
    assert (rows[3]["patient"], rows[3]["series"]) == ("", "")
    assert rows[3]["sha256"] == hashlib.sha256(b"c.png").hexdigest()
    assert "Jane" not in "".join(path.read_text() for path in (tmp_path / "out").glob("*.*"))


def test_what_cannot_be_trusted_is_left_out_and_counted(people: People, tmp_path: Path) -> None:
    names = ("kept.png", "changed.png", "gone.png", "skipped.png", "disputed.png")
    kept, changed, gone, skipped, disputed = map(people.put, names)
    volume = people.put("volume.nii.gz", slice_index=1, slice_count=22)
    copies = [people.put(name, b"the same") for name in ("one.png", "two.png")]
    for file_id in (kept, changed, gone, disputed, volume, copies[0]):
        people.say(file_id, "tumour")
    people.say(skipped, "skip")
    people.say(kept, "skip", reviewer="bob")  # who skips contradicts nobody
    people.say(disputed, "no_tumour", reviewer="bob")
    people.say(copies[1], "no_tumour")
    (people.inbox / "changed.png").write_bytes(b"something else")
    (people.inbox / "gone.png").unlink()

    done = people.export(tmp_path / "out")

    assert _files(tmp_path / "out") == ["dataset.json", "groups.csv", f"tumour/{kept}.png"]
    assert {why: len(names) for why, names in done.left_out.items()} == {
        NotExported.CHANGED: 1,
        NotExported.GONE: 1,
        NotExported.SKIPPED: 1,
        NotExported.DISPUTED: 3,
        NotExported.VOLUME: 1,
    }
    assert done.left_out[NotExported.GONE] == [os.fsencode(people.inbox / "gone.png")]
    told = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert told["LeftOut"]["disputed"] == 3


def test_names_never_collide_or_escape(people: People, tmp_path: Path) -> None:
    names = (
        "a/1.png",
        "b/1.png",
        "c/.hidden",
        "d/=cmd.pn g",
        "e/x.nii.gz",
        "f/\udcff\x1b[2J.png",
        "g/" + "l" * 250,
    )
    ids = [people.put(name, os.fsencode(name)) for name in names]
    for file_id in ids:
        people.say(file_id, "tumour")

    people.export(tmp_path / "out")

    suffixes = (".png", ".png", ".hidden", "", ".nii.gz", ".png", "")
    assert sorted(path.name for path in (tmp_path / "out" / "tumour").iterdir()) == sorted(
        f"{file_id}{suffix}" for file_id, suffix in zip(ids, suffixes, strict=True)
    )


@pytest.mark.parametrize("label", ["../up", ".hidden", "groups.csv", "a/b"])
def test_a_class_that_can_be_no_folder_is_refused(people: People, tmp_path: Path, label: str) -> None:
    own = replace(MODEL, weights_sha256="ef" * 32, classes=(label, "tumour"))
    people.store.model_id = people.store.ledger.model_id(own)
    people.say(people.put("a.png"), label, weights=own.weights_sha256)

    with pytest.raises(UsageError, match="cannot be the name of a folder"):
        people.export(tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_a_class_called_as_the_folder_of_other_kinds_keeps_its_name(people: People, tmp_path: Path) -> None:
    own = replace(MODEL, weights_sha256="ef" * 32, classes=("other-kind", "tumour"))
    people.store.model_id = people.store.ledger.model_id(own)
    first, second = people.put("a.png"), people.put("b.png")
    people.say(first, "other-kind", weights=own.weights_sha256, is_class=True)
    people.say(second, "other-kind", weights=own.weights_sha256)

    done = people.export(tmp_path / "out")

    assert (dict(done.classes), done.to_reject) == ({"other-kind": 1}, 1)
    assert _table(tmp_path / "out" / "exclude.csv")[0]["file"] == f"out/other-kind_/{second}.png"


def test_links_share_the_bytes_and_leave_the_rights_of_the_original(people: People, tmp_path: Path) -> None:
    people.say(people.put("a.png"), "tumour")
    people.say(people.put("b.png"), "tumour")
    original = people.inbox / "a.png"
    original.chmod(0o644)
    (people.inbox / "b.png").write_bytes(b"changed")

    done = people.export(tmp_path / "out", is_linked=True)

    assert (tmp_path / "out" / "tumour" / "1.png").samefile(original)
    assert original.stat().st_mode & 0o777 == 0o644
    assert list(done.left_out) == [NotExported.CHANGED]
    assert _files(tmp_path / "out") == ["dataset.json", "groups.csv", "tumour/1.png"]


def test_a_later_export_takes_away_what_no_longer_stands_and_nothing_else(
    people: People, tmp_path: Path
) -> None:
    first, second = people.put("a.png"), people.put("b.png")
    people.say(first, "tumour")
    people.say(second, "other-kind")
    people.export(tmp_path / "out")
    (tmp_path / "out" / "tumour" / "mine.png").write_bytes(b"mine")
    people.say(first, "no_tumour")
    people.say(second, "no_tumour")

    people.export(tmp_path / "out")

    assert _files(tmp_path / "out") == [
        "dataset.json", "groups.csv", "no_tumour/1.png", "no_tumour/2.png", "tumour/mine.png",
    ]  # fmt: skip


def test_nothing_is_written_into_an_inbox_or_of_models_with_different_classes(
    people: People, tmp_path: Path
) -> None:
    people.say(people.put("a.png"), "tumour")
    (tmp_path / "link").symlink_to(people.inbox)

    for folder in (people.inbox / "out", tmp_path / "link" / "out"):
        with pytest.raises(UsageError, match="lies in the inbox"):
            people.export(folder)
    people.store.model_id = people.store.ledger.model_id(replace(OTHER_MODEL, classes=("a", "b")))
    people.say(people.put("b.png"), "a", weights=OTHER_MODEL.weights_sha256)
    with pytest.raises(UsageError, match="models with different classes"):
        people.export(tmp_path / "out")


def test_with_nothing_to_train_on_no_folder_appears(people: People, tmp_path: Path) -> None:
    people.say(people.put("a.png"), "skip")

    with pytest.raises(BtError, match="no dataset was written: all are left out: 1 skipped"):
        people.export(tmp_path / "out")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "x.db", "x.db-shm", "x.db-wal"]
