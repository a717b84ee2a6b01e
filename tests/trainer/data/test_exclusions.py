"""Files of a collection that take no part, by a list with reasons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from config.errors import DataError, UsageError
from tests.support.training import draw_heads
from trainer.cli import main
from trainer.data.dataset import Collection, Dataset
from trainer.data.exclusions import Exclusions, read_exclusions
from trainer.model.spec import Preprocessing

HOW = Preprocessing(image_size=64)


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    """Two classes of four drawn heads."""
    return draw_heads(tmp_path / "set", 4)


def written(tmp_path: Path, *rows: str, head: str = "file,use,reason") -> Path:
    """Return an exclude list of these rows."""
    path = tmp_path / "exclude.csv"
    path.write_text("\n".join((head, *rows)) + "\n", encoding="utf-8")
    return path


def collection(root: Path, exclusions: Exclusions) -> Collection:
    """Return one root without what is excluded."""
    return Collection((root,), {}, root.parent / "cache", exclusions)


def loaded(root: Path, exclusions: Exclusions) -> Dataset:
    """Return its images."""
    return collection(root, exclusions).load(HOW)


def test_files_left_out_and_files_to_reject_are_no_images_of_the_set(heads: Path, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "set/no/no 1.png,leave-out,a mass",
        'set/no/no 2.png,reject,"head CT, thick skull"',
        "other/no/no 3.png,reject,of another collection",
    )
    exclusions = read_exclusions(path)

    dataset = loaded(heads, exclusions)

    names = {image.name for image in dataset.files}
    assert len(dataset) == 6
    assert "set/no/no 3.png" in names
    assert not names & {"set/no/no 1.png", "set/no/no 2.png"}
    assert [image.name for image in dataset.to_reject] == ["set/no/no 2.png"]
    assert dataset.excluded_text == "left out 2 files of the exclude list, 1 of them examples to reject"


def test_the_pictures_to_reject_are_those_that_the_set_would_hold(heads: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "set/yes/yes 2.png,reject,no head")
    chosen = collection(heads, read_exclusions(path))
    whole = Collection((heads,), {}, tmp_path / "cache").load(HOW)
    place = [image.name for image in whole.files].index("set/yes/yes 2.png")

    strangers = chosen.load_strangers(chosen.load(HOW), HOW)

    assert np.array_equal(strangers, whole.pictures[[place]])


def test_without_a_list_nothing_is_excluded_and_there_are_no_strangers(heads: Path, tmp_path: Path) -> None:
    whole = Collection((heads,), {}, tmp_path / "cache")
    dataset = whole.load(HOW)

    assert len(dataset) == 8
    assert not dataset.excluded_text
    assert whole.load_strangers(dataset, HOW).shape == (0, 64, 64)


@pytest.mark.parametrize(
    ("rows", "head", "told"),
    [
        (["set/no/no 1.png,leave-out"], "file,use", "lacks the columns"),
        (["set/no/no 1.png,delete,why"], "file,use,reason", "has the use 'delete'"),
        (["a/b/c,reject,x", "a/b/c,leave-out,y"], "file,use,reason", "another use"),
        ([",reject,x"], "file,use,reason", "names no file"),
        ([], "file,use,reason", "names no file"),
    ],
)
def test_a_list_that_cannot_be_meant_is_one_line(
    tmp_path: Path, rows: list[str], head: str, told: str
) -> None:
    with pytest.raises(UsageError, match=told) as raised:
        read_exclusions(written(tmp_path, *rows, head=head))

    assert raised.value.hint
    assert "\n" not in str(raised.value)


def test_a_file_named_twice_alike_counts_once_and_a_list_may_be_missing(tmp_path: Path) -> None:
    path = written(tmp_path, "a/b/c,reject,x", "a/b/c,reject,y")

    assert read_exclusions(path).uses == {"a/b/c": "reject"}
    with pytest.raises(UsageError, match="cannot read the exclude list"):
        read_exclusions(tmp_path / "missing.csv")


def test_a_list_of_another_collection_is_refused_unless_it_need_not_name_any(
    heads: Path, tmp_path: Path
) -> None:
    exclusions = read_exclusions(written(tmp_path, "elsewhere/no/1.png,reject,x"))

    with pytest.raises(UsageError, match="names none of the images"):
        loaded(heads, exclusions)
    assert len(loaded(heads, exclusions.where_named())) == 8


def test_a_list_of_everything_leaves_nothing_to_do(heads: Path, tmp_path: Path) -> None:
    rows = [f"set/{path.parent.name}/{path.name},leave-out,x" for path in heads.rglob("*.png")]

    with pytest.raises(DataError, match="leaves no image"):
        loaded(heads, read_exclusions(written(tmp_path, *rows)))


def test_audit_says_what_the_list_left_out(
    heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "set/no/no 1.png,leave-out,a mass")

    code = main(["audit", "--data", str(heads), "--exclude-list", str(path)])

    told = capsys.readouterr().out
    assert code == 0
    assert "7 images" in told
    assert "left out 1 file of the exclude list, 0 of them examples to reject" in told


def test_the_list_for_the_public_collections_can_be_read() -> None:
    path = Path(__file__).parents[3] / "trainer" / "default" / "exclusions.csv"

    uses = read_exclusions(path).uses or {}

    assert sum(use == "reject" for use in uses.values()) >= 28
