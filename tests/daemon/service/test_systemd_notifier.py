"""What a service manager is told: by the real daemon, over a real socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.service.systemd_notifier import SystemdNotifier
from tests.conftest import REPOSITORY
from tests.support.daemons import until
from trainer.images.phantom import phantom


class Manager:
    """A service manager's side of NOTIFY_SOCKET."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.heard: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(place))
        self.socket.setblocking(False)

    def listen(self) -> list[str]:
        """Return all that was said so far."""
        while True:
            try:
                self.heard.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return self.heard

    def forget(self) -> None:
        self.listen()
        self.heard.clear()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.socket.close()


@contextmanager
def daemon(manager: Manager, inbox: Path, watchdog_seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    environ = os.environ | {
        "NOTIFY_SOCKET": str(manager.place),
        "WATCHDOG_USEC": str(int(watchdog_seconds * 1e6)),
    }
    arguments = ["watch", str(inbox), "--db", str(inbox.parent / "results.db"), "--settle", "100ms"]
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon.cli", *arguments],
        cwd=REPOSITORY,
        env=environ,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(30)


def test_without_a_manager_there_is_nothing_to_tell() -> None:
    assert SystemdNotifier.of({}, 1) is None
    assert SystemdNotifier.of({"NOTIFY_SOCKET": "relative"}, 1) is None


@pytest.mark.slow
def test_ready_status_watchdog_and_stopping_are_said_and_no_name_with_them(
    manager: Manager, tmp_path: Path
) -> None:
    inbox = tmp_path / "canary-inbox"
    inbox.mkdir()
    phantom(1, lesion=True).save(inbox / "canary-file.png")
    with daemon(manager, inbox, watchdog_seconds=3) as process:
        until(lambda: "READY=1" in manager.listen())
        until(lambda: any("1 judged" in said for said in manager.listen()))
        manager.forget()
        time.sleep(6)
        assert manager.listen().count("WATCHDOG=1") >= 2  # once a period at least, though nothing happens
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0

    said = manager.listen()
    assert said.count("STOPPING=1") == 1
    assert not [one for one in said if "canary" in one]


@pytest.mark.slow
def test_daemon_whose_loop_does_not_turn_feeds_no_watchdog(manager: Manager, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with daemon(manager, inbox, watchdog_seconds=1.5) as process:
        until(lambda: manager.listen().count("WATCHDOG=1") > 1)
        process.send_signal(signal.SIGSTOP)
        manager.forget()
        time.sleep(3)
        assert "WATCHDOG=1" not in manager.listen()
        process.send_signal(signal.SIGCONT)
        until(lambda: "WATCHDOG=1" in manager.listen())


@pytest.mark.slow
def test_daemon_whose_workers_all_hang_feeds_no_watchdog(manager: Manager, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with daemon(manager, inbox, watchdog_seconds=1.5) as process:
        until(lambda: "READY=1" in manager.listen())
        for worker in _children(process.pid):
            os.kill(worker, signal.SIGSTOP)
        for number in range(64):
            phantom(number, lesion=True, size=64).save(inbox / f"{number}.png")

        def is_quiet() -> bool:
            manager.forget()
            time.sleep(2)
            return "WATCHDOG=1" not in manager.listen()

        until(is_quiet)
        for worker in _children(process.pid):
            os.kill(worker, signal.SIGCONT)
        until(lambda: "WATCHDOG=1" in manager.listen())


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]
