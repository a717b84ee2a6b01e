"""SIGHUP, and a terminal that is closed under the daemon: it goes on, and says how to reload."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.daemons import PATIENCE_SECONDS, bt_daemon, count, running, until
from trainer.images.phantom import phantom

pytestmark = [pytest.mark.slow, pytest.mark.defects(13)]

# A shell's child at a terminal: a session of its own whose controlling terminal is fd 0.
AT_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "daemon.cli", *sys.argv[1:]])
"""


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def test_a_closed_terminal_ends_neither_the_daemon_nor_its_lanes(inbox: Path, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    ours, theirs = pty.openpty()
    daemon = subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, "watch", inbox, "--lanes", "1", "--db", database],
        cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    try:
        os.close(theirs)
        _read_until(ours, b"watching")
        phantom(1, lesion=True).save(inbox / "before.png")
        _read_until(ours, b"before.png: ")  # the last images are shown as they come

        os.close(ours)  # the kernel sends SIGHUP, and every write to the terminal fails from now on
        time.sleep(0.5)
        (inbox / "broken.png").write_text("no image")  # a line for the log
        phantom(2, lesion=True).save(inbox / "after.png")
        until(lambda: count(database) == 3 or daemon.poll() is not None)
        alive = daemon.poll() is None
        restarts = bt_daemon("status", "--json", "--db", database).stdout
        daemon.terminate()
        code = daemon.wait(PATIENCE_SECONDS)
    finally:
        daemon.kill()
        daemon.wait()

    assert alive
    assert '"lane_restarts": 0' in restarts
    assert code == 0
    assert "not running; ended" in bt_daemon("status", "--db", database).stdout


def test_sighup_is_answered_with_how_to_reload(inbox: Path, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    with running(inbox, "--lanes", "1", database=database) as daemon:
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: "SIGHUP" in daemon.log.read_text())
        phantom(1, lesion=True).save(inbox / "after.png")
        until(lambda: count(database) == 1)

        assert daemon.stop() == 0
    assert "start it again, nothing is lost" in daemon.log.read_text()


def test_a_signal_to_the_whole_group_ends_no_lane(inbox: Path, tmp_path: Path) -> None:
    """As systemd sends SIGTERM and a terminal SIGHUP: what is in flight is finished, not done again."""
    database = tmp_path / "results.db"
    with running(inbox, "--lanes", "1", database=database) as daemon:
        os.killpg(daemon.process.pid, signal.SIGHUP)
        phantom(1, lesion=True).save(inbox / "after.png")
        until(lambda: count(database) == 1)
        os.killpg(daemon.process.pid, signal.SIGTERM)

        assert daemon.process.wait(PATIENCE_SECONDS) == 0
    assert "worker process" not in daemon.log.read_text()


def _read_until(terminal: int, words: bytes) -> None:
    seen = b""
    while words not in seen:
        seen += os.read(terminal, 4096)
