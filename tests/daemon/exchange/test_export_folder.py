"""An export appears whole, and only where there is nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import BtError, UsageError
from daemon.exchange.export_folder import check_export_folder, export_folder


def _anything(_: Path) -> bool:
    return True


def _nothing(_: Path) -> bool:
    return False


def test_a_new_or_empty_folder_is_filled_at_once(tmp_path: Path) -> None:
    for folder in (tmp_path / "new", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        check_export_folder(folder, _nothing, overwrite=False)

        with export_folder(folder) as made:
            (made / "a").mkdir()
            (made / "a" / "one.tsv").write_text("1")
            assert not folder.exists() or not list(folder.iterdir())

        assert (folder / "a" / "one.tsv").read_text() == "1"
        assert (folder / "a" / "one.tsv").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_export_that_fails_leaves_nothing_behind(
    tmp_path: Path, error: BaseException | type[BaseException]
) -> None:
    def fill() -> None:
        with export_folder(tmp_path / "new") as made:
            (made / "one.tsv").write_text("1")
            raise error

    with pytest.raises((KeyboardInterrupt, BtError)):
        fill()

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(UsageError, match="is not empty; name a new folder"):
        check_export_folder(tmp_path, _anything, overwrite=False)
    with pytest.raises(UsageError, match="holds something else than an earlier export"):
        check_export_folder(tmp_path, _nothing, overwrite=True)


def test_overwriting_replaces_files_of_the_same_name_only(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("old")
    (tmp_path / "mine.txt").write_text("mine")
    check_export_folder(tmp_path, _anything, overwrite=True)

    with export_folder(tmp_path) as made:
        (made / "a.tsv").write_text("new")

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.tsv": "new",
        "mine.txt": "mine",
    }


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for place in (tmp_path / "file", tmp_path / "nowhere" / "new"):
        with pytest.raises(BtError, match=r"cannot write .*; choose another folder"):
            check_export_folder(place, _anything, overwrite=True)
