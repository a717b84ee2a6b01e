"""The folder of a training run: a new one unless asked otherwise, never another run's."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from config.errors import UsageError
from config.text import printable

WEIGHTS_NAME = "model.safetensors"
CHECKPOINT_NAME = "checkpoint.safetensors"
METRICS_NAME = "metrics.json"
PREDICTIONS_NAME = "predictions.csv"
SPLIT_NAME = "validation.txt"  # the sha256 of each image judged on, one per line
RUNS = Path("runs")
_RUN_FILE = "run.toml"


def run_folder(wanted: Path | None, name: str | None = None, *, resume: bool, overwrite: bool) -> Path:
    """Return where a run's files go; `wanted` None is a new folder, or with `resume` the newest run's.

    A new one is runs/NAME, runs/NAME-2 and so on, without a name runs/TIME; with `resume` a name finds the
    newest of these.

    Raises UsageError if a run would be overwritten unasked, or there is none to resume.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite contradict each other", hint="give one of them")
    if wanted is None:
        return _newest_run(name) if resume else _new_run(name)
    shown = printable(str(wanted))
    if resume and not _has_checkpoint(wanted):
        raise UsageError(
            f"there is no run to resume in {shown}",
            hint="train without --resume, or name another with -o DIR",
        )
    if not resume and not overwrite and _holds_run(wanted):
        raise UsageError(
            f"{shown} holds a run already",
            hint="give another -o DIR, --resume to go on with it, or --overwrite to lose it",
        )
    return wanted


@contextmanager
def made_folder(folder: Path, *, overwrite: bool = False) -> Iterator[None]:
    """Make a run's folder before hours are spent; one that nothing was written to is removed again.

    Raises UsageError if it cannot be made. With `overwrite` the checkpoints in it are removed: this run's
    must not be taken for those of another.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    handle = -1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in list(folder.rglob(CHECKPOINT_NAME)) if overwrite else []:
            path.unlink()
        handle = _claimed(folder)
    except OSError as error:
        raise UsageError(
            f"cannot make the folder {printable(str(folder))} ({error.strerror})", hint="give another -o DIR"
        ) from None
    try:
        yield
    finally:
        os.close(handle)
        with suppress(OSError):  # it is not empty: then it stays
            if [path.name for path in folder.iterdir()] == [_RUN_FILE]:
                (folder / _RUN_FILE).unlink()
            for one in missing:
                one.rmdir()


def is_running(folder: Path) -> bool:
    """Return whether a training writes into a folder at this moment, as far as this machine knows."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)
    return False


def _claimed(folder: Path) -> int:
    """Return a descriptor that holds the folder's lock, which ends with the process.

    Raises UsageError if another training has it.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UsageError(
            f"another training writes into {printable(str(folder))} at this moment",
            hint="wait for it, or give another -o DIR",
        ) from None
    except OSError:
        pass  # a file system without locks
    return handle


def how_to_go_on(folder: Path) -> str:
    """Return what to tell a person who interrupted a run."""
    if not _has_checkpoint(folder):
        return "interrupted before the end of an epoch: nothing of this run is saved"
    return f"interrupted; go on with bt-train --resume -o {printable(shlex.quote(str(folder)))}"


def _holds_run(folder: Path) -> bool:
    return _has_checkpoint(folder) or any((folder / name).exists() for name in (WEIGHTS_NAME, METRICS_NAME))


def _has_checkpoint(folder: Path) -> bool:
    """Whether the run, or one of the rounds before it, can be gone on with."""
    return next(folder.rglob(CHECKPOINT_NAME), None) is not None


def _new_run(name: str | None) -> Path:
    """Return the first free folder of a name, or of the time."""
    if name is not None and (not name.strip(". ") or "/" in name or "\0" in name):
        raise UsageError(
            f"--name {printable(repr(name))} is no name of a folder", hint="give -o DIR, or another name"
        )
    folder = RUNS / (name or f"{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    number = 2
    while folder.exists():
        folder = folder.with_name(f"{name or folder.name.partition('_')[0]}{'-' if name else '_'}{number}")
        number += 1
    return folder


def _newest_run(name: str | None) -> Path:
    """Return the run in runs/ that was written last, of those with a name if there is one."""
    wanted = re.compile(rf"{re.escape(name)}(-\d+)?" if name else ".*")
    found = sorted(
        (path for path in RUNS.glob(f"*/{CHECKPOINT_NAME}") if wanted.fullmatch(path.parent.name)),
        key=lambda path: path.stat().st_mtime_ns,
    )
    if not found:
        of = f" of the name {printable(name)}" if name else ""
        raise UsageError(f"there is no run{of} to resume in runs/", hint="say which with -o DIR")
    return found[-1].parent
