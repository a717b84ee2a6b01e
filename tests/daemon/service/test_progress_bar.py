"""The progress bar of `watch --once` leaves log lines whole, at any width of the terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.stored_results import run_in_terminal
from trainer.images.phantom import phantom

CONTROL = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


def _screen(shown: str) -> list[str]:
    """Return the lines that stay on a terminal wide enough for all of them."""
    lines, row, column = [""], 0, 0
    for number, letter, carriage, newline, text in CONTROL.findall(shown):
        if letter == "K":
            lines[row] = ""
        elif letter == "A":
            row -= int(number or 1)
        elif carriage:
            column = 0
        elif newline:
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
    return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.slow
@pytest.mark.defects(39)
@pytest.mark.parametrize("columns", [40, 50, 80, 120])
def test_log_lines_stand_alone_above_the_bar_and_the_bar_fits(tmp_path: Path, columns: int) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "sub").mkdir(parents=True)
    for number in range(40):
        phantom(number, lesion=True, size=64).save(inbox / "sub" / f"{number}.png")
    (inbox / "link.png").symlink_to(inbox / "sub" / "0.png")  # a warning while the bar is drawn

    shown = run_in_terminal(
        "watch", str(inbox), "--once", "--settle", "0s", "--db", str(tmp_path / "r.db"), columns=columns
    )

    bars = re.findall(r"judging [^\r\n]*", re.sub(r"\x1b\[[0-9;]*m", "", shown))
    assert [bar for bar in bars if "images/s" in bar]
    assert all(len(bar.split("\x1b")[0]) <= columns for bar in bars if "━" in bar or "images/s" in bar)
    lines = [line for line in _screen(shown) if "preparing the engine" not in line]
    assert len(lines) == 3
    for line in lines:
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+\d{4} (info|warning) ", line)
