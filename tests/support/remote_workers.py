"""Real workers that join a daemon over loopback, as processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.support.daemons import PATIENCE_SECONDS, Daemon, until
from trainer.images.phantom import phantom


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def draw_images(folder: Path, count: int) -> Path:
    """Draw heads into a new folder, each another one."""
    folder.mkdir()
    for number in range(count):
        phantom(number, lesion=number % 2 == 0, label=False).save(folder / f"{number:04}.png")
    return folder


class RemoteProcess:
    """A `bt-daemon worker`; what it says is in `log`."""

    def __init__(self, head: str, *arguments: str | Path, log: Path, before: str = "") -> None:
        """`before` is Python that runs first: another version, another engine."""
        self.log = log
        script = f"{before}\nfrom daemon.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", script, "worker", head, *map(str, arguments)],
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """What it has said so far."""
        return self.log.read_text()

    def wait_until_joined(self, times: int = 1) -> None:
        """Return when it says that it has joined."""
        until(lambda: self.said.count(" joined ") >= times or self.process.poll() is not None)
        assert self.process.poll() is None, self.said

    def wait(self) -> int:
        """Return its exit code when it has ended."""
        return self.process.wait(PATIENCE_SECONDS)

    def stop(self) -> int:
        """Ask it to end and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Kill it and its own processes, as a machine that is switched off."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def remote_worker(
    head: str, *arguments: str | Path, log: Path, before: str = "", lanes: int = 1
) -> Iterator[RemoteProcess]:
    """Run a worker until the block ends."""
    worker = RemoteProcess(head, "--lanes", str(lanes), *arguments, log=log, before=before)
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.process.terminate()
            try:
                worker.process.wait(15)
            except subprocess.TimeoutExpired:
                worker.kill()


def wait_until_listening(daemon: Daemon, times: int = 1) -> None:
    """Return when workers may join a daemon."""
    until(
        lambda: daemon.log.read_text().count("workers may join") >= times or daemon.process.poll() is not None
    )
    assert daemon.process.poll() is None, daemon.log.read_text()
