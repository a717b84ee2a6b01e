"""The log: lines of JSON that a program can sort, and a file that does not grow without end."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import daemon.log
from config.errors import UsageError
from daemon.log import LOGGER_NAME, set_up_log
from tests.support.daemons import bt_daemon
from trainer.images.phantom import phantom


@pytest.fixture(autouse=True)
def closed_log() -> Iterator[None]:
    yield
    for handler in logging.getLogger(LOGGER_NAME).handlers:
        handler.close()
    logging.getLogger(LOGGER_NAME).handlers.clear()


def test_file_gets_the_same_lines_and_is_its_owners_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "daemon.log"
    logger = set_up_log(0, "json", file=str(place))

    logger.info("one\x1b[31m")
    logger.warning("two", extra={"event": "disk_full"})

    assert place.read_text() == capsys.readouterr().err
    lines = [json.loads(line) for line in place.read_text().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("notice", "info"),
        ("disk_full", "warning"),
    ]
    assert lines[0]["message"] == "one\\x1b[31m"
    assert place.stat().st_mode & 0o777 == 0o600


def test_file_is_renamed_when_it_has_grown_and_the_oldest_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon.log, "FILE_BYTES", 1_000)
    logger = set_up_log(0, "text", file=str(tmp_path / "daemon.log"))

    for number in range(200):
        logger.info("a line of some length, number %d", number)

    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["daemon.log", *(f"daemon.log.{number}" for number in range(1, 6))]
    assert all(path.stat().st_size <= 1_000 for path in tmp_path.iterdir())
    assert "number 199" in (tmp_path / "daemon.log").read_text()


def test_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--log-file"):
        set_up_log(0, "text", file=str(tmp_path / "no" / "daemon.log"))


@pytest.mark.slow
def test_lines_of_images_say_what_became_of_each(tmp_path: Path) -> None:
    inbox, log = tmp_path / "inbox", tmp_path / "daemon.log"
    inbox.mkdir()
    phantom(1, lesion=True).save(inbox / "good\n.png")
    (inbox / "bad.png").write_text("no image")

    done = bt_daemon(
        *("watch", inbox, "--once", "-v", "--log-format", "json", "--log-file", log),
        *("--db", tmp_path / "results.db"),
    )

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    [judged] = [line for line in lines if line["event"] == "image_judged"]
    [failed] = [line for line in lines if line["event"] == "image_failed"]
    assert (judged["file"], judged["inbox"], judged["state"]) == ("good\\x0a.png", str(inbox), "done")
    assert judged["status"] in {"ok", "uncertain", "rejected"}
    assert len(judged["model"]) == 64
    assert judged["duration_ms"] > 0
    assert failed["cause"] == "not an image of a known format"
    assert lines[-1]["event"] == "stopped"
