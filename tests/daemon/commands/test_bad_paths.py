"""No path that a person can give is a traceback, and no folder is made that nobody asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.cli import main
from tests.support.stored_results import Store, judged

BAD = {
    "in a folder that is not there": "missing/deep/x",
    "below a file": "file.txt/x",
    "in a folder of the kernel's": "/proc/x",
    "too long": "x" * 300,
    "with a newline and an escape": "new\n\x1b[31mline/x",
    "of bytes that are not UTF-8": "caf\udce9/x",
    "empty": "",
}
# In which PATH is the bad path; the others exist.
COMMANDS = (
    "demo --keep PATH",
    "report -o PATH",
    "results -o PATH",
    "results --summary --format csv -o PATH",
    "show 1 --heatmap PATH",
    "classify slice.png --heatmap PATH",
    "classify slice.png --weights PATH",
    "watch PATH --once",
    "watch inbox --once --heatmaps PATH",
    "watch inbox --once --weights PATH",
    "config show --config PATH",
    "config path --config PATH",
    "show PATH",
)
# Where an empty text is the same as none: a setting that is emptied.
EMPTY_IS_NONE = ("--weights PATH", "--heatmaps PATH")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "inbox").mkdir()
    (tmp_path / "slice.png").write_bytes(b"x")
    Store(tmp_path / "r.db", tmp_path / "inbox").put([(b"1.png", judged())])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BT_DB", "r.db")
    return tmp_path


def _tree(folder: Path) -> list[Path]:
    # SQLite makes r.db-wal and r.db-shm for a reader, too.
    return sorted(path for path in folder.rglob("*") if not path.name.startswith("r.db-"))


@pytest.mark.defects(35)
@pytest.mark.parametrize("path", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_that_cannot_be_is_one_line_and_leaves_no_folder_behind(
    workplace: Path, command: str, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if not path and command.endswith(EMPTY_IS_NONE):
        pytest.skip("empty: the default")
    before = _tree(workplace)

    code = main([path if word == "PATH" else word for word in command.split()])

    out, err = capfd.readouterr()
    assert code in (1, 2, 4)
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("bt-daemon: ")
    assert err[:-1].isprintable()
    assert _tree(workplace) == before


@pytest.mark.defects(35)
@pytest.mark.parametrize(
    "command", ["demo --keep PATH", "report -o PATH", "classify slice.png --heatmap PATH"]
)
@pytest.mark.parametrize("path", ["file.txt/", "closed/x", "closed"])
def test_a_file_for_a_folder_and_a_folder_that_is_closed_are_refused(
    workplace: Path, command: str, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if path.startswith("closed"):
        (workplace / "closed").symlink_to("/proc/self")  # not even root may write there

    code = main([path if word == "PATH" else word for word in command.split()])

    if (command, path) == ("report -o PATH", "file.txt/"):
        return  # a slash at the end of a file's name is passed over
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert code in (1, 2)
