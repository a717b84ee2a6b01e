"""Run a daemon for a long time under a steady stream of files, and fit how its memory grows.

    python -m tests.harness.soak [--minutes 30] [--rate 20] [--csv FILE] [--json FILE]

Files are renamed into the inbox at a steady rate, each with bytes of its own. One in ten is deleted a
moment later, one in twenty renamed, one in fifty is no image; the judged are moved to a done folder that
is emptied as it fills, as its user would. A reader asks for results once a second. Every five seconds the
memory of daemon and workers (proportional set size), descriptors, threads and the size of the write-ahead
log are written down. After the first minutes (`--warm-up`) a line is fitted through each.

Exits 1 unless every file that stayed has exactly one row, the database is whole, and no process grows by
0.2 MB a minute or more.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from storage.database import open_reader
from storage.queries.results import count
from storage.query import Query
from tests.support.daemons import Daemon, running, until
from trainer.images.phantom import phantom

_SAMPLE_SECONDS = 5.0
_MOST_MB_A_MINUTE = 0.2
_PICTURES = 60
_KEPT_IN_DONE = 500
_COLUMNS = ("seconds", "daemon_mb", "lanes_mb", "descriptors", "threads", "wal_mb", "rows", "files_written")


@dataclass
class _Stream:
    """What was put into the inbox; `expected` are the names that must have a row."""

    inbox: Path
    pictures: list[bytes]
    chance: random.Random
    written: int = 0
    expected: set[str] = field(default_factory=set)
    uncertain: set[str] = field(default_factory=set)  # deleted or renamed: judged before that, or not
    to_delete: list[tuple[float, str]] = field(default_factory=list)

    def put(self, now: float) -> None:
        """Rename one more file into the inbox, and perhaps rename or delete it."""
        name = f"{self.written:07}.png"
        part = self.inbox.parent / "part.png"
        broken = self.chance.random() < 0.02
        # Bytes after the picture's end: another content each time, so that nothing is known by its hash.
        data = b"no image" if broken else self.chance.choice(self.pictures)
        part.write_bytes(data + self.written.to_bytes(8, "big"))
        part.rename(self.inbox / name)
        self.written += 1
        self.expected.add(name)
        kind = self.chance.random()
        if kind < 0.1:
            self.to_delete.append((now + self.chance.random() * 0.01, name))
        elif kind < 0.15:
            self._rename(name)

    def delete_due(self, now: float) -> None:
        """Delete the files whose time has come, judged or not."""
        due = [name for when, name in self.to_delete if when <= now]
        self.to_delete = [(when, name) for when, name in self.to_delete if when > now]
        for name in due:
            (self.inbox / name).unlink(missing_ok=True)
            self.expected.discard(name)
            self.uncertain.add(name)

    def _rename(self, name: str) -> None:
        try:
            (self.inbox / name).rename(self.inbox / f"renamed-{name}")
        except FileNotFoundError:  # judged and moved already
            return
        self.expected.discard(name)
        self.uncertain.add(name)
        self.expected.add(f"renamed-{name}")


def main() -> int:
    """Run the soak and return 0 if nothing was lost and nothing grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--warm-up", type=float, default=5.0, help="minutes before the fit begins")
    parser.add_argument("--rate", type=float, default=20.0, help="files a second")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bt-soak-") as folder:
        told, samples = _soak(Path(folder), options)
    if options.csv:
        with options.csv.open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([_COLUMNS, *samples])
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told))
    grows = max(told["daemon_mb_a_minute"], told["lanes_mb_a_minute"]) >= _MOST_MB_A_MINUTE
    return int(bool(told["lost"] or told["doubled"] or told["integrity"] != "ok" or grows))


def _soak(folder: Path, options: argparse.Namespace) -> tuple[dict[str, Any], list[tuple[float, ...]]]:
    inbox, done, quarantine = folder / "inbox", folder / "done", folder / "quarantine"
    inbox.mkdir()
    chance = random.Random(7)
    stream = _Stream(inbox, _pictures(folder), chance)
    arguments = ["--on-done", "move", "--done-dir", str(done), "--quarantine-dir", str(quarantine)]
    samples: list[tuple[float, ...]] = []
    with running(inbox, *arguments, database=folder / "results.db") as daemon:
        began = time.monotonic()
        next_sample = next_read = began
        while (now := time.monotonic()) < began + 60 * options.minutes:
            stream.delete_due(now)
            if stream.written < (now - began) * options.rate:
                stream.put(now)
                continue
            if now >= next_sample:
                samples.append(_sample(daemon, now - began, stream))
                _empty(done)
                next_sample += _SAMPLE_SECONDS
                print(f"\r{samples[-1]}", end="", file=sys.stderr, flush=True)
            if now >= next_read:
                _read(daemon.database)
                next_read = now + 1.0
            time.sleep(0.005)
        stream.delete_due(float("inf"))
        until(lambda: not any(inbox.iterdir()), 120)
        code = daemon.stop()
    return {**_counted(daemon, stream), "exit_code": code, **_fitted(samples, options.warm_up)}, samples


def _pictures(folder: Path) -> list[bytes]:
    pictures = []
    for number in range(_PICTURES):
        path = folder / "picture.png"
        phantom(number, lesion=bool(number % 2), size=224).save(path)
        pictures.append(path.read_bytes())
    return pictures


def _sample(daemon: Daemon, seconds: float, stream: _Stream) -> tuple[float, ...]:
    process = psutil.Process(daemon.process.pid)
    lanes = process.children(recursive=True)
    wal = daemon.database.with_name(daemon.database.name + "-wal")
    return (
        round(seconds, 1),
        _megabytes([process]),
        _megabytes(lanes),
        process.num_fds() + sum(lane.num_fds() for lane in lanes),
        process.num_threads() + sum(lane.num_threads() for lane in lanes),
        round(wal.stat().st_size / 1e6, 2) if wal.exists() else 0.0,
        _read(daemon.database),
        stream.written,
    )


def _megabytes(processes: Sequence[psutil.Process]) -> float:
    return float(round(sum(process.memory_full_info().pss for process in processes) / 1e6, 2))


def _read(database: Path) -> int:
    with open_reader(database) as reader:
        return count(reader, Query())


def _empty(done: Path) -> None:
    if done.is_dir():
        for path in sorted(done.iterdir())[:-_KEPT_IN_DONE]:
            path.unlink()


def _counted(daemon: Daemon, stream: _Stream) -> dict[str, Any]:
    connection = sqlite3.connect(daemon.database)
    rows = [
        name.decode()
        for (name,) in connection.execute("SELECT file.name FROM result JOIN file ON file.id = file_id")
    ]
    integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
    errors = connection.execute("SELECT count(*) FROM result WHERE status = 3").fetchone()[0]
    connection.close()
    found = set(rows)
    return {
        "files": stream.written, "deleted_or_renamed": len(stream.uncertain), "rows": len(rows),
        "errors": errors, "lost": len(stream.expected - found), "doubled": len(rows) - len(found),
        "strangers": len(found - stream.expected - stream.uncertain), "integrity": integrity,
    }  # fmt: skip


def _fitted(samples: list[tuple[float, ...]], warm_up: float) -> dict[str, Any]:
    """Return the slope of each memory after the warm-up, MB a minute, and the largest of the rest."""
    table = np.array([sample for sample in samples if sample[0] >= 60 * warm_up])
    if len(table) < 3:
        raise SystemExit("too short: there is nothing to fit after the warm-up")
    minutes = table[:, 0] / 60
    slopes = [float(np.polyfit(minutes, table[:, column], 1)[0]) for column in (1, 2)]
    return {
        "minutes": round(samples[-1][0] / 60, 1),
        "daemon_mb_a_minute": round(slopes[0], 4), "lanes_mb_a_minute": round(slopes[1], 4),
        "daemon_mb_largest": float(table[:, 1].max()), "lanes_mb_largest": float(table[:, 2].max()),
        "descriptors": [int(table[:, 3].min()), int(table[:, 3].max())],
        "threads": [int(table[:, 4].min()), int(table[:, 4].max())],
        "wal_mb_largest": float(table[:, 5].max()),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
