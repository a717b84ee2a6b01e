"""The same judgement as `watch`, on single files, on the spot: the daemon's own lanes, no inbox."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.lanes import Lanes
from daemon.output.words import ScoreLimits, score_limits
from daemon.task import Task
from storage.records import Failed, FileVersion, Judged, Outcome, Status

if TYPE_CHECKING:
    from config.settings import Settings
    from daemon.prepared import PreparedEngine
    from trainer.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Classified:
    """What was concluded about one file that was named on the command line."""

    path: bytes  # as it was given
    outcome: Outcome
    model: str
    limits: ScoreLimits  # what the score is compared with

    @property
    def judged(self) -> Judged:
        """The judgement; an error has the same fields."""
        if isinstance(self.outcome.result, Failed):
            return Judged(Status.ERROR, None, None, self.outcome.result.reason)
        return self.outcome.result


def classify(
    files: Sequence[Path], settings: Settings, logger: logging.Logger
) -> tuple[list[Classified], PreparedEngine, ModelSpec]:
    """Return what the model says of each file, in the order given, and the model itself.

    A bad file is an error, not a raise.
    """
    from daemon.session import lane_count, lane_setup, likely_engine, ready_engine

    waiting = [_task(number, path) for number, path in enumerate(files)]
    tasks = [task for task in waiting if isinstance(task, Task)]
    outcomes = {task.file_id: task for task in waiting if isinstance(task, Outcome)}
    count = min(lane_count(settings), len(tasks))
    engine = likely_engine(settings)
    with Lanes(count, decode_seconds=settings.decode_seconds, engine=engine, logger=logger) as lanes:
        prepared, spec = ready_engine(settings, logger)
        lanes.begin(lane_setup(settings, prepared))
        outcomes |= {outcome.file_id: outcome for outcome in _all(lanes, tasks)}
    model = f"{spec.name} {spec.version} {prepared.weights_sha256[:8]}"
    limits = score_limits(spec)
    found = [
        Classified(os.fsencode(path), outcomes[number], model, limits) for number, path in enumerate(files)
    ]
    return found, prepared, spec


def save(found: Sequence[Classified], settings: Settings, prepared: PreparedEngine, spec: ModelSpec) -> int:
    """Store what was concluded, as if each file's folder were an inbox; return how many rows are new."""
    from daemon.lock import DatabaseLock
    from daemon.model_store import keep_model
    from daemon.session import model_record
    from storage.database import database_path, open_writer
    from storage.ledger import Ledger

    path = database_path(settings.db)
    with DatabaseLock(path):
        connection = open_writer(path)
        try:
            ledger = Ledger(connection)
            model_id = ledger.model_id(model_record(prepared, spec))
            keep_model(Path(prepared.weights), prepared.weights_sha256, path, quiet_logger())
            with ledger.transaction():
                versions = {one: _version(ledger, one) for one in found}
                entries = {
                    entry.version: entry.file_id for entry in ledger.add([v for v in versions.values() if v])
                }
                outcomes = [
                    Outcome(entries[version], one.outcome.result, one.outcome.sha256, one.outcome.duration_us)
                    for one, version in versions.items()
                    if version in entries
                ]
                ledger.record(outcomes, model_id)
        finally:
            connection.close()
    return len(outcomes)


def _all(lanes: Lanes, tasks: Sequence[Task]) -> list[Outcome]:
    rest = list(tasks)
    outcomes: list[Outcome] = []
    while len(outcomes) < len(tasks):
        room = lanes.room(len(rest))
        if room:
            lanes.submit(rest[:room])
            rest = rest[room:]
        left = lanes.next_deadline() - time.monotonic()
        wait(lanes.waitables(), max(0.0, min(left, 1.0)))
        outcomes += lanes.collect()
    return outcomes


def _task(number: int, path: Path) -> Task | Outcome:
    """Return the task for a file, or the outcome if there is no such file."""
    from storage.records import FailureKind

    try:
        seen = path.lstat()
    except OSError as error:
        reason = error.strerror or "cannot be read"
        return Outcome(number, Failed(FailureKind.PERMANENT, reason[0].lower() + reason[1:]))
    return Task(number, os.fsencode(path.absolute()), seen.st_size, seen.st_mtime_ns, seen.st_ino)


def _version(ledger: object, one: Classified) -> FileVersion | None:
    from storage.ledger import Ledger

    assert isinstance(ledger, Ledger)
    path = Path(os.fsdecode(one.path)).absolute()
    try:
        seen = path.lstat()
    except OSError:
        return None
    inbox_id = ledger.inbox_id(os.fsencode(path.parent))
    return FileVersion(inbox_id, b"", os.fsencode(path.name), seen.st_size, seen.st_mtime_ns, seen.st_ino)


def quiet_logger() -> logging.Logger:
    """Return a logger that passes warnings only: a command that answers at once has no log."""
    from daemon.log import set_up_log

    return set_up_log(-1, "text")
