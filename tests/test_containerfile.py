"""The Containerfile: what it copies and runs is there, and it runs as nobody in particular.

No image is built here: what its lines do is done in .ci/run and in these tests without one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from config.settings import resolve
from tests.conftest import REPOSITORY
from tests.support.daemons import count, running, until
from trainer.images.phantom import phantom

TEXT = re.sub(r"\\\n\s*", " ", (REPOSITORY / "Containerfile").read_text())
LINES = [line.split(maxsplit=1) for line in TEXT.splitlines() if line.strip() and not line.startswith("#")]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def _said(instruction: str) -> list[str]:
    return [rest for word, rest in LINES if word == instruction]


def _environment() -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(_said("ENV"))))


def test_every_line_is_an_instruction() -> None:
    known = {
        "ARG", "FROM", "WORKDIR", "COPY", "RUN", "LABEL", "ENV", "USER", "VOLUME", "STOPSIGNAL",
        "HEALTHCHECK", "ENTRYPOINT", "CMD",
    }  # fmt: skip

    assert {word for word, _ in LINES} == known
    assert LINES[0] == ["ARG", "PYTHON=3.12"]
    assert all(image.startswith("docker.io/library/python:${PYTHON}-slim") for image in _said("FROM"))


@pytest.mark.slow
def test_what_is_copied_is_all_that_building_the_package_needs(tmp_path: Path) -> None:
    """The very files that are copied make a whole wheel: with weights, templates and migrations."""
    copied = [line.split()[:-1] for line in _said("COPY") if not line.startswith("--from")]
    for name in (name for names in copied for name in names):
        target = tmp_path / "build" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", REPOSITORY / name, target], check=True)

    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, tmp_path / "build"],
        check=True,
    )

    (wheel,) = tmp_path.glob("*.whl")
    held = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", wheel], check=True, text=True, capture_output=True
    ).stdout
    needed = {
        path.relative_to(REPOSITORY).as_posix()
        for room in ("config", "storage", "trainer", "daemon")
        for path in (REPOSITORY / room).rglob("*.*")
        if "__pycache__" not in path.parts and path.suffix != ".csv"
    }
    assert len(needed) > 200
    assert not [name for name in needed if name not in held]


def test_the_extras_that_it_installs_and_names_exist() -> None:
    (extras,) = [line for line in _said("ARG") if line.startswith("EXTRAS=")]
    named = extras.removeprefix("EXTRAS=").split(",")

    assert set(named) <= PROJECT["optional-dependencies"].keys()
    assert "[${EXTRAS}]" in TEXT


def test_it_runs_as_a_user_without_rights() -> None:
    users = _said("USER")
    after = TEXT[TEXT.index("\nUSER ") :]

    assert users == ["bt"]
    assert "useradd --uid 10001" in TEXT
    assert "\nRUN" not in after
    assert json.loads(_said("VOLUME")[0]) == ["/inbox", "/data"]


def test_its_settings_are_settings_and_all_it_keeps_lies_in_the_volume() -> None:
    environment = {name: value for name, value in _environment().items() if name.startswith("BT_")}

    settings = resolve({}, environment).settings

    assert str(settings.db) == "/data/results.db"
    assert str(settings.cache) == "/data/cache"


@pytest.mark.slow
def test_it_watches_the_inbox_and_its_health_check_tells_whether_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very commands, in a shell, with the environment's settings: unhealthy before and after."""
    (check,) = _said("HEALTHCHECK")
    shell = check.partition(" CMD ")[2].replace("bt-daemon", f"{sys.executable} -m daemon.cli")
    command, folder = json.loads(_said("CMD")[0]), tmp_path / "inbox"
    monkeypatch.setenv("BT_DB", str(tmp_path / "results.db"))
    monkeypatch.chdir(REPOSITORY)

    def healthy() -> bool:
        return subprocess.run(["sh", "-c", shell], capture_output=True, check=False).returncode == 0

    folder.mkdir()
    phantom(1, lesion=True).save(folder / "1.png")
    before = healthy()
    with running(folder, database=tmp_path / "results.db") as daemon:
        until(healthy)
        until(lambda: count(daemon.database) == 1)
        code = daemon.stop()

    assert json.loads(_said("ENTRYPOINT")[0]) == ["bt-daemon"]
    assert command == ["watch", "/inbox"]
    assert not before
    assert code == 0
    assert not healthy()
