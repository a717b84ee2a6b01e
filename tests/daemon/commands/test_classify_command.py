"""`bt-daemon classify` judges files and folders on the spot, and with --save keeps one row of each."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.daemons import bt_daemon, count, rows, running, until
from tests.support.pictures import head
from tests.trainer.images.formats.test_dicom import dicom, saved
from tests.trainer.images.formats.test_nifti import nifti, volume
from trainer.images.phantom import phantom

pytestmark = pytest.mark.slow


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder with an image of each kind, and some that cannot be judged."""
    folder = tmp_path / "scans"
    (folder / "sub").mkdir(parents=True)
    phantom(1, lesion=True).save(folder / "slice.png")
    (folder / "sub" / "slice.dcm").write_bytes(saved(dicom(head(), StudyInstanceUID="1.2.3")))
    (folder / "sub" / "volume.nii").write_bytes(nifti(volume()))
    (folder / "empty.png").touch()
    (folder / "letter.jpg").write_text("a text, whatever its name says")
    return folder


FILES = ["empty.png", "letter.jpg", "slice.png", "sub/slice.dcm", "sub/volume.nii"]


def _stored(database: Path) -> list[str]:
    return sorted(Path(row["file"]).name for row in rows(database))


@pytest.mark.defects(42)
def test_saving_twice_keeps_one_row_of_every_kind_of_file_with_its_tags(scans: Path, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    files = [scans / name for name in FILES]
    save = ("--save", "--tags", "StudyInstanceUID", "--db", database)

    first = bt_daemon("classify", *files, files[2], "missing.png", *save)
    second = bt_daemon("classify", *files, *save)

    assert (first.returncode, second.returncode) == (1, 1), first.stderr + second.stderr
    assert "5 new rows stored" in first.stderr
    assert "0 new rows stored" in second.stderr
    found = {Path(row["file"]).name: row for row in rows(database)}
    assert sorted(found) == sorted(Path(name).name for name in FILES)
    assert count(database) == 5
    assert found["slice.dcm"]["tags"] == {"StudyInstanceUID": "1.2.3"}
    assert found["volume.nii"]["slice_count"] == 6
    assert (found["empty.png"]["status"], found["letter.jpg"]["status"]) == ("error", "error")
    assert json.loads(bt_daemon("status", "--json", "--db", database).stdout)["pending"] == 0


@pytest.mark.defects(42)
def test_saving_beside_a_daemon_adds_no_second_row_of_what_it_watches(scans: Path, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    other = tmp_path / "other.png"
    phantom(4, lesion=False).save(other)
    with running(scans, "--deadline", "2s", database=database) as daemon:  # for the empty file
        until(lambda: count(database) == len(FILES))

        saving = bt_daemon("classify", other, *(scans / name for name in FILES), "--save", "--db", database)
        phantom(5, lesion=True).save(scans / "later.png")
        until(lambda: count(database) == len(FILES) + 2)

        assert "1 new row stored" in saving.stderr
        assert daemon.stop() == 0
    assert _stored(database) == sorted(["other.png", "later.png", *(Path(name).name for name in FILES)])


@pytest.mark.defects(42)
def test_what_was_saved_from_a_subfolder_is_known_to_a_later_watch(scans: Path, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    (tmp_path / "link").symlink_to(scans)

    bt_daemon("classify", tmp_path / "link", "--save", "--db", database)
    one = bt_daemon("classify", scans / "sub" / "slice.dcm", "--save", "--db", database)
    watched = bt_daemon("watch", scans, "--once", "--settle", "0s", "--db", database)

    assert "0 new rows stored" in one.stderr
    assert "0 images judged" in watched.stderr
    assert count(database) == len(FILES)


@pytest.mark.defects(41)
def test_of_a_folder_those_files_are_judged_that_watch_would_take(scans: Path, tmp_path: Path) -> None:
    (scans / ".hidden.png").write_text("x")
    (scans / "upload.png.part").write_text("x")
    (scans / "link.png").symlink_to(scans / "slice.png")
    os.mkfifo(scans / "pipe.png")

    every = bt_daemon("classify", scans, "--format", "json")
    flat = bt_daemon("classify", scans, "--no-recursive", "--include", "*.png,*.dcm", "--format", "json")

    assert [os.path.relpath(row["file"], scans) for row in json.loads(every.stdout)] == FILES
    assert every.returncode == 1
    below = bt_daemon("classify", scans, "--include", f"{scans}/sub/*", "--format", "jsonl")

    assert [Path(row["file"]).name for row in json.loads(flat.stdout)] == ["empty.png", "slice.png"]
    assert len(below.stdout.splitlines()) == 2
    assert "Traceback" not in every.stderr


@pytest.mark.defects(41)
def test_a_folder_without_a_file_to_judge_is_an_empty_answer(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    done = bt_daemon("classify", tmp_path / "empty", "--format", "json")

    assert (done.returncode, done.stdout) == (0, "[]\n")
    assert "no file to judge" in done.stderr
