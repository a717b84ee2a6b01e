"""Workers over drawn images, for tests: real processes, waited for with a deadline."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from daemon.engines.manifest import PreparedEngine
from daemon.workers.messages import Task, WorkerSetup
from daemon.workers.pool import WorkerPool
from storage.records import Outcome
from trainer.images.phantom import phantom
from trainer.images.picture import Limits

PATIENCE_SECONDS = 60.0


def drawn_images(folder: Path) -> list[Task]:
    """Eight drawn heads, as tasks."""
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(8)]
    for number, path in enumerate(paths):
        phantom(number, lesion=number % 2 == 0, label=False).save(path)
    return [task(number, path) for number, path in enumerate(paths)]


def make_workers(
    prepared: PreparedEngine,
    *,
    count: int = 1,
    batch: int = 16,
    tasks: int | None = None,
    decode_seconds: float = 10.0,
    monotonic: Callable[[], float] = time.monotonic,
    **setup: Any,
) -> WorkerPool:
    told = WorkerSetup(prepared, Limits(), batch, 1 << 31, tasks=tasks or batch, **setup)
    return WorkerPool(count, told, decode_seconds=decode_seconds, monotonic=monotonic)


def task(number: int, path: Path) -> Task:
    found = path.stat()
    return Task(number, os.fsencode(path), found.st_size, found.st_mtime_ns, found.st_ino)


def judge(workers: WorkerPool, tasks: list[Task]) -> list[Outcome]:
    workers.submit(tasks)
    return collect(workers, len(tasks))


def collect(workers: WorkerPool, count: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(outcomes) < count:
        assert time.monotonic() < deadline, f"{len(outcomes)} of {count} outcomes"
        wait(workers.waitables(), min(0.2, max(0.0, workers.next_deadline() - time.monotonic())))
        outcomes += workers.collect()
    return outcomes


def wait_until_ready(workers: WorkerPool) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not workers.ready:
        assert time.monotonic() < deadline
        wait(workers.waitables(), 0.2)
        workers.collect()
