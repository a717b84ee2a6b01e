"""Databases with results in them, written by the real ledger, and the real command over them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from daemon.cli import main
from storage.database import open_writer
from storage.ledger import Ledger
from storage.records import Failed, FileVersion, Judged, ModelRecord, Outcome, Status

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

    path: Path
    inbox: Path
    clock: Clock = field(default_factory=Clock)

    def put(
        self, results: Sequence[tuple[bytes, Judged | Failed]], *, model: ModelRecord = MODEL
    ) -> list[int]:
        """Take up and conclude each (path below the inbox, result), a second apart; return the file ids."""
        ids = []
        with closing(open_writer(self.path)) as connection:
            ledger = Ledger(connection, self.clock)
            inbox_id, model_id = ledger.inbox_id(str(self.inbox).encode()), ledger.model_id(model)
            for path, result in results:
                folder, _, name = path.rpartition(b"/")
                version = FileVersion(inbox_id, folder, name, len(path), self.clock() * 1000, 1000 + len(ids))
                entries = ledger.add([version])
                self.clock.advance(1)
                sha256 = hashlib.sha256(path).digest()
                ledger.record([Outcome(entry.file_id, result, sha256, 1500) for entry in entries], model_id)
                ids += [entry.file_id for entry in entries]
        return ids


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

    database: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Ran:
        self.capture.readouterr()
        code = main([*arguments, "--db", str(self.database)])
        out, err = self.capture.readouterr()
        return Ran(code, out, err)
