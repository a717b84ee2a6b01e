"""Databases with results in them, written by the real ledger, and the real command over them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from daemon.cli import main
from storage.database import open_writer
from storage.ledger.ledger import Ledger
from storage.records import Failed, FileVersion, Judged, ModelRecord, Outcome, Status
from tests.conftest import REPOSITORY
from tests.support.databases import Target

# 2026-11-24 08:00:00 UTC
START_US = 1_795_507_200_000_000
MODEL = ModelRecord(
    weights_sha256="a1b2c3d4" * 8,
    name="brain-mri",
    version="1.0",
    engine="openvino",
    precision="bf16",
    device="cpu",
    classes=("no", "yes"),
    why="bf16 is native to this CPU",
)


@dataclass
class Clock:
    """Each transaction happens a second after the one before."""

    now_us: int = START_US

    def __call__(self) -> int:
        return self.now_us

    def advance(self, seconds: float) -> None:
        self.now_us += int(seconds * 1_000_000)


@dataclass
class Store:
    """A database that a test fills as the daemon would."""

    path: Target
    inbox: Path
    clock: Clock = field(default_factory=Clock)

    @property
    def file(self) -> Path:
        """The database of a test that knows it to be a file."""
        return Path(self.path)

    def put(
        self, results: Sequence[tuple[bytes, Judged | Failed]], *, model: ModelRecord = MODEL
    ) -> list[int]:
        """Take up and conclude each (path below the inbox, result), a second apart; return the file ids."""
        ids: list[int] = []
        with closing(open_writer(self.path)) as connection:
            ledger = Ledger(connection, self.clock)
            inbox_id, model_id = ledger.inbox_id(str(self.inbox).encode()), ledger.model_id(model)
            with ledger.transaction():
                for path, result in results:
                    ids += self._put_one(ledger, inbox_id, model_id, path, result)
        return ids

    def judge_again(self, results: Sequence[Judged | Failed], model: ModelRecord) -> None:
        """Conclude as many of the images once more, the oldest first, as `watch --reclassify` does."""
        with closing(open_writer(self.path)) as connection:
            ledger = Ledger(connection, self.clock)
            model_id = ledger.model_id(model)
            ledger.reclassify(model_id)
            self.clock.advance(1)
            for entry, result in zip(ledger.due(len(results), self.clock()), results, strict=True):
                ledger.record([Outcome(entry.file_id, result, b"\1" * 32, 1500)], model_id)

    def _put_one(
        self, ledger: Ledger, inbox_id: int, model_id: int, path: bytes, result: Judged | Failed
    ) -> list[int]:
        folder, _, name = path.rpartition(b"/")
        entries = ledger.add([FileVersion(inbox_id, folder, name, len(path), self.clock() * 1000, 1000)])
        self.clock.advance(1)
        sha256 = hashlib.sha256(path).digest()
        ledger.record([Outcome(entry.file_id, result, sha256, 1500) for entry in entries], model_id)
        return [entry.file_id for entry in entries]


def judged(label: str = "yes", confidence: float = 0.9, status: Status = Status.OK, **more: object) -> Judged:
    """Return what the network concluded."""
    return Judged(status, label, confidence, **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Ran:
    """What a command line said and how it ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Program:
    """`bt-daemon` in this process, on one database."""

    database: Target
    capture: pytest.CaptureFixture[str]

    @property
    def file(self) -> Path:
        """The database of a test that knows it to be a file."""
        return Path(self.database)

    def __call__(self, *arguments: str) -> Ran:
        self.capture.readouterr()
        code = main(["--db", str(self.database), *arguments])
        out, err = self.capture.readouterr()
        return Ran(code, out, err)


def run_piped(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `bt-daemon` as a process of its own, as in a pipe."""
    command = [sys.executable, "-m", "daemon.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)


def run_in_terminal(
    *arguments: str,
    columns: int = 100,
    rows: int = 24,
    environ: dict[str, str] | None = None,
    typed: bytes = b"",
) -> str:
    """Run `bt-daemon` at a terminal of that size and return all that appears there, line ends as LF."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environ = {**os.environ, "TERM": "xterm-256color", **(environ or {})}
    for name in ("COLUMNS", "LINES"):
        environ.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon.cli", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=REPOSITORY,
        env=environ,
    )
    os.close(theirs)
    os.write(ours, typed)
    shown = b""
    try:
        while chunk := _read(ours):
            shown += chunk
    finally:
        os.close(ours)
        process.wait(timeout=20)
    return shown.decode("utf-8").replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux says EIO when the other side has closed
        return b""
