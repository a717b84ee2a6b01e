"""Every command in the READMEs is run, and its two set-up commands are what the check command does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from daemon.cli import main as bt_daemon
from daemon.commands.demo import fill
from tests.conftest import REPOSITORY
from tests.support.dicom_series import write_series
from trainer.cli import main as bt_train
from trainer.images.phantom import phantom

README = (REPOSITORY / "README.md").read_text()
# In this order: what the second asks, the first has made.
PAGES = (
    README,
    *(
        (REPOSITORY / page).read_text()
        for page in (
            *(f"{room}/README.md" for room in ("daemon", "storage", "trainer", "tests")),
            "CONTRIBUTING.md",
        )
    ),
)


def _commands() -> list[str]:
    """Return every line that starts with `$ ` in a console block."""
    blocks = [block for page in PAGES for block in re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL)]
    return [
        line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")
    ]


PROGRAM_COMMANDS = [line for line in _commands() if line.startswith(("bt-daemon ", "bt-train "))]
# These do not end by themselves: test_watch_command.py, test_web.py and test_listen.py run them to their end
# by a signal. Here the one makes a single pass, and the others are left out.
ENDLESS = ("bt-daemon watch ./inbox",)
SERVERS = ("bt-daemon web", "bt-daemon listen ")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the inbox, images and training data that the README's commands speak of."""
    folder = tmp_path_factory.mktemp("readme")
    fill(folder / "inbox")
    write_series(folder / "inbox" / "series", 1, 3)
    phantom(1, lesion=True).save(folder / "slice.png")
    for number in range(24):
        for name, lesion in (("yes", True), ("no", False)):
            (folder / "data" / name).mkdir(parents=True, exist_ok=True)
            phantom(number, lesion=lesion, size=96).save(folder / "data" / name / f"{number}.png")
    return folder


def test_the_readme_shows_commands_of_both_programs() -> None:
    assert any(line.startswith("bt-daemon results") for line in PROGRAM_COMMANDS)
    assert any(line.startswith("bt-train --data") for line in PROGRAM_COMMANDS)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_readmes_commands_work_in_their_order(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("BT_SETTLE", "0s")

    for line in PROGRAM_COMMANDS:
        if line.startswith(SERVERS):
            continue
        program, *arguments = shlex.split(
            line.replace("data/", "data --epochs 1 --image-size 64 ", 1)
            if line == "bt-train --data data/"
            else line
        )
        if line in ENDLESS:
            arguments.append("--once")
        code = (bt_daemon if program == "bt-daemon" else bt_train)(arguments)
        output = capsys.readouterr()
        assert code == 0, f"{line}: {output.err}"


def test_the_readmes_test_command_is_the_one_that_is_checked() -> None:
    check = (REPOSITORY / ".ci" / "run").read_text()

    assert "pip install . && .venv/bin/bt-daemon demo" in README
    assert "pip install -e '.[train,test]'" in README
    assert ".venv/bin/python -m pytest" in README
    assert "--editable '.[train,timm,test,check,docs]'" in check
    assert '"$python" -m pytest' in check


def test_the_readme_says_that_this_is_no_medical_device() -> None:
    assert "not a medical device" in README.lower()
