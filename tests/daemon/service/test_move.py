"""Moving an image after its row is committed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.service.move import MoveError, move_away
from storage.records import FileVersion


def _version(root: Path, relative: str) -> FileVersion:
    seen = (root / relative).lstat()
    folder, name = os.path.split(os.fsencode(relative))
    return FileVersion(1, folder, name, seen.st_size, seen.st_mtime_ns, seen.st_ino)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    root = tmp_path / "inbox"
    (root / "a").mkdir(parents=True)
    (root / "a" / "x.png").write_bytes(b"one")
    return root


def test_a_moved_image_keeps_its_folder_and_name(inbox: Path, tmp_path: Path) -> None:
    target = tmp_path / "done"

    moved = move_away(os.fsencode(inbox), _version(inbox, "a/x.png"), os.fsencode(target))

    assert moved == os.fsencode(target / "a" / "x.png")
    assert (target / "a" / "x.png").read_bytes() == b"one"
    assert not (inbox / "a" / "x.png").exists()


def test_a_name_that_is_taken_gets_a_number_and_nothing_is_overwritten(inbox: Path, tmp_path: Path) -> None:
    target = tmp_path / "done"
    (target / "a").mkdir(parents=True)
    (target / "a" / "x.png").write_bytes(b"earlier")

    moved = move_away(os.fsencode(inbox), _version(inbox, "a/x.png"), os.fsencode(target))

    assert moved == os.fsencode(target / "a" / "x.1.png")
    assert (target / "a" / "x.png").read_bytes() == b"earlier"
    assert (target / "a" / "x.1.png").read_bytes() == b"one"


def test_a_file_that_changed_since_it_was_judged_stays(inbox: Path, tmp_path: Path) -> None:
    judged = _version(inbox, "a/x.png")
    (inbox / "a" / "x.png").write_bytes(b"a newer version")

    moved = move_away(os.fsencode(inbox), judged, os.fsencode(tmp_path / "done"))

    assert moved is None
    assert (inbox / "a" / "x.png").read_bytes() == b"a newer version"


def test_a_file_that_is_gone_is_no_error(inbox: Path, tmp_path: Path) -> None:
    judged = _version(inbox, "a/x.png")
    (inbox / "a" / "x.png").unlink()

    assert move_away(os.fsencode(inbox), judged, os.fsencode(tmp_path / "done")) is None


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_a_move_to_another_device_leaves_one_complete_copy(inbox: Path, tmp_path: Path) -> None:
    if Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    target = Path("/dev/shm") / f"bt-test-{os.getpid()}"
    try:
        moved = move_away(os.fsencode(inbox), _version(inbox, "a/x.png"), os.fsencode(target))

        assert moved == os.fsencode(target / "a" / "x.png")
        assert (target / "a" / "x.png").read_bytes() == b"one"
        assert not (inbox / "a" / "x.png").exists()
    finally:
        for path in sorted(target.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        target.rmdir()


def test_a_target_that_cannot_be_made_is_an_error_and_the_image_stays(inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "done").write_text("a file where the folder should be")

    with pytest.raises(MoveError):
        move_away(os.fsencode(inbox), _version(inbox, "a/x.png"), os.fsencode(tmp_path / "done"))

    assert (inbox / "a" / "x.png").exists()
