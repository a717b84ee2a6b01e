"""The same judgement as `watch`, on single files, on the spot: the daemon's own workers, no inbox."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.output.words import ScoreLimits, score_limits
from daemon.workers.messages import Task
from daemon.workers.pool import WorkerPool
from storage.records import Failed, FailureKind, FileVersion, Judged, Outcome, Status

if TYPE_CHECKING:
    from config.settings import Settings
    from daemon.engines.manifest import PreparedEngine
    from daemon.service.named_files import NamedFile
    from storage.ledger.ledger import Ledger
    from trainer.model.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Classified:
    """What was concluded about one file that was named on the command line."""

    file: NamedFile
    task: Task | None  # the file as it was when it was judged; None: there is no such file
    outcome: Outcome
    model: str
    limits: ScoreLimits  # what the score is compared with

    @property
    def path(self) -> bytes:
        """The path as it was given."""
        return self.file.path

    @property
    def judged(self) -> Judged:
        """The judgement; an error has the same fields."""
        if isinstance(self.outcome.result, Failed):
            return Judged(Status.ERROR, None, None, self.outcome.result.reason)
        return self.outcome.result


def classify(
    files: Sequence[NamedFile], settings: Settings, logger: logging.Logger
) -> tuple[list[Classified], PreparedEngine, ModelSpec]:
    """Return what the model says of each file, in the order given, and the model itself.

    A bad file is an error, not a raise.
    """
    from daemon.workers.setup import likely_engine, ready_engine, worker_count, worker_setup

    waiting = [_task(number, file.path) for number, file in enumerate(files)]
    tasks = [task for task in waiting if isinstance(task, Task)]
    outcomes = {task.file_id: task for task in waiting if isinstance(task, Outcome)}
    count = min(worker_count(settings), len(tasks))
    engine = likely_engine(settings)
    with WorkerPool(count, decode_seconds=settings.decode_seconds, engine=engine, logger=logger) as workers:
        prepared, spec = ready_engine(settings, logger)
        workers.begin(worker_setup(settings, prepared))
        outcomes |= {outcome.file_id: outcome for outcome in _all(workers, tasks)}
    model = f"{spec.name} {spec.version} {prepared.weights_sha256[:8]}"
    limits = score_limits(spec)
    found = [
        Classified(file, task if isinstance(task, Task) else None, outcomes[number], model, limits)
        for number, (file, task) in enumerate(zip(files, waiting, strict=True))
    ]
    return found, prepared, spec


def save(found: Sequence[Classified], settings: Settings, prepared: PreparedEngine, spec: ModelSpec) -> int:
    """Store what was concluded, also beside a daemon; return how many rows are new.

    A file belongs to the inbox it lies in, if the database knows one, else to the folder that was named.
    Raises DatabaseError (exit 3).
    """
    from daemon.model_store import keep_model
    from daemon.service.open_ledger import model_record
    from storage.database import open_writer, stand_in
    from storage.ledger.ledger import Ledger

    keep_model(Path(prepared.weights), prepared.weights_sha256, stand_in(settings.db), quiet_logger())
    # Checkpoints are left to the daemon, if one runs; without one SQLite makes the last when it closes.
    with closing(open_writer(settings.db, checkpoints=False)) as connection:
        ledger = Ledger(connection)
        with ledger.transaction():
            model_id = ledger.model_id(model_record(prepared, spec))
            # Of a file that was named twice the version, and so the row, is one.
            concluded = {
                _version(ledger, one, one.task): one.outcome for one in found if one.task is not None
            }
            outcomes = [
                replace(
                    concluded[entry.version], file_id=entry.file_id, result=_final(concluded[entry.version])
                )
                for entry in ledger.add(list(concluded))
            ]
            ledger.record(outcomes, model_id)
    return sum(_makes_a_row(outcome) for outcome in outcomes)


def _final(outcome: Outcome) -> Judged | Failed:
    """Return a failure that may pass as one that lasts: nobody would try that file again."""
    if isinstance(outcome.result, Failed) and _makes_a_row(outcome):
        return Failed(FailureKind.PERMANENT, outcome.result.reason)
    return outcome.result


def _makes_a_row(outcome: Outcome) -> bool:
    """Tell whether anything can be said of the version: not of one that went or changed meanwhile."""
    failed = outcome.result
    return isinstance(failed, Judged) or failed.kind not in (FailureKind.GONE, FailureKind.CHANGED)


def _all(workers: WorkerPool, tasks: Sequence[Task]) -> list[Outcome]:
    rest = list(tasks)
    outcomes: list[Outcome] = []
    while len(outcomes) < len(tasks):
        room = workers.room(len(rest))
        if room:
            workers.submit(rest[:room])
            rest = rest[room:]
        left = workers.next_deadline() - time.monotonic()
        wait(workers.waitables(), max(0.0, min(left, 1.0)))
        outcomes += workers.collect()
    return outcomes


def _task(number: int, path: bytes) -> Task | Outcome:
    """Return the task for a file, or the outcome if there is no such file."""
    try:
        seen = os.lstat(path)
    except OSError as error:
        reason = error.strerror or "cannot be read"
        return Outcome(number, Failed(FailureKind.PERMANENT, reason[0].lower() + reason[1:]))
    return Task(number, os.path.abspath(path), seen.st_size, seen.st_mtime_ns, seen.st_ino)


def _version(ledger: Ledger, one: Classified, seen: Task) -> FileVersion:
    """Return the version that was judged, in the inbox it lies in."""
    folder, name = os.path.split(seen.path)
    folder = os.path.realpath(folder)
    inbox = ledger.inbox_around(folder) or one.file.inbox
    below = b"" if folder == inbox else os.path.relpath(folder, inbox)
    return FileVersion(ledger.inbox_id(inbox), below, name, seen.size, seen.mtime_ns, seen.inode)


def quiet_logger() -> logging.Logger:
    """Return a logger that passes warnings only: a command that answers at once has no log."""
    from daemon.log import set_up_log

    return set_up_log(-1, "text")
