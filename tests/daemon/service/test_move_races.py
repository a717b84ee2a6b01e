"""Moves among newcomers, links and crashes: what was not judged is never moved, overwritten or deleted."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.service import move as after
from daemon.service.move import MoveError, bring_home, move_away
from storage.records import FileVersion

pytestmark = pytest.mark.defects(3)


def version_of(root: Path, relative: str) -> FileVersion:
    seen = (root / relative).lstat()
    folder, name = os.path.split(os.fsencode(relative))
    return FileVersion(1, folder, name, seen.st_size, seen.st_mtime_ns, seen.st_ino)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    root = tmp_path / "inbox"
    (root / "a").mkdir(parents=True)
    (root / "a" / "x.png").write_bytes(b"judged")
    return root


@pytest.fixture
def other_device() -> Iterator[Path]:
    folder = Path("/dev/shm") / f"bt-test-{os.getpid()}"
    if not folder.parent.is_dir() or folder.parent.stat().st_dev == Path("/tmp").stat().st_dev:
        pytest.skip("needs a second file system")
    folder.mkdir()
    yield folder
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()


def rename_newcomer_in(inbox: Path) -> None:
    (inbox / "new").write_bytes(b"a newcomer, not judged")
    (inbox / "new").rename(inbox / "a" / "x.png")


def call_before(monkeypatch: pytest.MonkeyPatch, function: str, action: Any) -> None:
    """Do something once, just before a step of a move."""
    real = getattr(after, function)
    done: list[bool] = []

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if not done:
            done.append(True)
            action()
        return real(*arguments, **options)

    monkeypatch.setattr(after, function, wrapped)


@pytest.mark.parametrize("step", ["_give", "_take_away"])
def test_newcomer_renamed_over_the_source_stays_in_the_inbox(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    judged = version_of(inbox, "a/x.png")
    call_before(monkeypatch, step, lambda: rename_newcomer_in(inbox))

    move_away(os.fsencode(inbox), judged, os.fsencode(tmp_path / "done"))

    assert (inbox / "a" / "x.png").read_bytes() == b"a newcomer, not judged"
    assert [path.name for path in (inbox / "a").iterdir()] == ["x.png"]


def test_newcomer_renamed_over_the_source_during_a_copy_stays(
    inbox: Path, other_device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = version_of(inbox, "a/x.png")
    real = shutil.copyfileobj

    def copy(*arguments: Any) -> None:
        real(*arguments)
        rename_newcomer_in(inbox)

    monkeypatch.setattr(shutil, "copyfileobj", copy)

    moved = move_away(os.fsencode(inbox), judged, os.fsencode(other_device / "done"))

    assert moved is not None
    assert Path(os.fsdecode(moved)).read_bytes() == b"judged"
    assert (inbox / "a" / "x.png").read_bytes() == b"a newcomer, not judged"


def test_file_written_to_while_it_is_moved_stays_for_its_new_version(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = version_of(inbox, "a/x.png")
    call_before(monkeypatch, "_take_away", lambda: (inbox / "a" / "x.png").write_bytes(b"longer than before"))

    moved = move_away(os.fsencode(inbox), judged, os.fsencode(tmp_path / "done"))

    assert moved is None
    assert (inbox / "a" / "x.png").read_bytes() == b"longer than before"
    assert not any((tmp_path / "done" / "a").iterdir())


@pytest.mark.parametrize("device", ["same", "other"])
def test_move_that_was_interrupted_is_found_where_it_ended(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, request: pytest.FixtureRequest
) -> None:
    target = tmp_path / "done" if device == "same" else request.getfixturevalue("other_device") / "done"
    judged = version_of(inbox, "a/x.png")
    first = move_away(os.fsencode(inbox), judged, os.fsencode(target))

    again = move_away(os.fsencode(inbox), judged, os.fsencode(target))

    assert again == first is not None


def test_copy_is_for_the_owner_alone_while_it_is_written_and_has_the_files_mode_after(
    inbox: Path, other_device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inbox / "a" / "x.png").chmod(0o640)
    modes: list[int] = []
    real = shutil.copyfileobj

    def copy(*arguments: Any) -> None:
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in other_device.rglob(".bt-part-*"))
        real(*arguments)

    monkeypatch.setattr(shutil, "copyfileobj", copy)

    moved = move_away(os.fsencode(inbox), version_of(inbox, "a/x.png"), os.fsencode(other_device / "done"))

    assert moved is not None
    assert modes == [0o600]
    assert stat.S_IMODE(Path(os.fsdecode(moved)).stat().st_mode) == 0o640
    assert [path.name for path in (other_device / "done" / "a").iterdir()] == ["x.png"]


@pytest.mark.defects(23)
def test_folders_that_a_move_makes_are_for_the_owner_alone(inbox: Path, tmp_path: Path) -> None:
    move_away(os.fsencode(inbox), version_of(inbox, "a/x.png"), os.fsencode(tmp_path / "done"))

    folders = [tmp_path / "done", tmp_path / "done" / "a"]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700, 0o700]


def test_link_in_the_target_does_not_lead_out_of_it(inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "a").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(MoveError):
        move_away(os.fsencode(inbox), version_of(inbox, "a/x.png"), os.fsencode(tmp_path / "done"))

    assert not any((tmp_path / "elsewhere").iterdir())
    assert (inbox / "a" / "x.png").exists()


def test_fifo_in_the_files_place_is_left_alone(inbox: Path, other_device: Path) -> None:
    judged = version_of(inbox, "a/x.png")
    (inbox / "a" / "x.png").unlink()
    os.mkfifo(inbox / "a" / "x.png")

    assert move_away(os.fsencode(inbox), judged, os.fsencode(other_device / "done")) is None


@pytest.mark.defects(42)
def test_move_error_passes_through_a_context_manager() -> None:
    import contextlib

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        yield

    with pytest.raises(MoveError, match="no room"), block():
        raise MoveError("no room")


@pytest.mark.defects(1)
def test_moved_file_comes_home_and_loses_its_other_name(inbox: Path, tmp_path: Path) -> None:
    judged = version_of(inbox, "a/x.png")
    moved = move_away(os.fsencode(inbox), judged, os.fsencode(tmp_path / "bad"))
    assert moved is not None

    home = bring_home(os.fsencode(inbox), judged, moved)
    assert home is not None
    home.finish()

    assert home.version == judged
    assert (inbox / "a" / "x.png").read_bytes() == b"judged"
    assert not os.path.lexists(moved)


@pytest.mark.defects(1)
def test_moved_file_does_not_come_home_over_another(inbox: Path, tmp_path: Path) -> None:
    judged = version_of(inbox, "a/x.png")
    moved = move_away(os.fsencode(inbox), judged, os.fsencode(tmp_path / "bad"))
    assert moved is not None
    (inbox / "a" / "x.png").write_bytes(b"another")

    with pytest.raises(MoveError, match="taken"):
        bring_home(os.fsencode(inbox), judged, moved)

    assert (inbox / "a" / "x.png").read_bytes() == b"another"
    assert os.path.lexists(moved)
