"""The folder of a training run: a new one unless asked otherwise, never another run's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from config.errors import UsageError
from config.text import printable

WEIGHTS_NAME = "model.safetensors"
CHECKPOINT_NAME = "checkpoint.safetensors"
METRICS_NAME = "metrics.json"
SPLIT_NAME = "validation.txt"  # the sha256 of each image judged on, one per line
_RUNS = Path("runs")


def run_folder(wanted: Path | None, *, resume: bool, overwrite: bool) -> Path:
    """Return where a run's files go; `wanted` None is a new folder, or with `resume` the newest run's.

    Raises UsageError if a run would be overwritten unasked, or there is none to resume.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite contradict each other", hint="give one of them")
    if wanted is None:
        return _newest_run() if resume else _new_run()
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in list(folder.rglob(CHECKPOINT_NAME)) if overwrite else []:
            path.unlink()
    except OSError as error:
        raise UsageError(
            f"cannot make the folder {printable(str(folder))} ({error.strerror})", hint="give another -o DIR"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # it is not empty: then it stays
            for one in missing:
                one.rmdir()


def how_to_go_on(folder: Path) -> str:
    """Return what to tell a person who interrupted a run."""
    if not _has_checkpoint(folder):
        return "interrupted before the end of an epoch: nothing of this run is saved"
    return f"interrupted; go on with the same options and --resume -o {printable(str(folder))}"


def _holds_run(folder: Path) -> bool:
    return _has_checkpoint(folder) or any((folder / name).exists() for name in (WEIGHTS_NAME, METRICS_NAME))


def _has_checkpoint(folder: Path) -> bool:
    """Whether the run, or one of the rounds before it, can be gone on with."""
    return next(folder.rglob(CHECKPOINT_NAME), None) is not None


def _new_run() -> Path:
    folder = _RUNS / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    number = 2
    while folder.exists():
        folder = folder.with_name(f"{folder.name.partition('_')[0]}_{number}")
        number += 1
    return folder


def _newest_run() -> Path:
    found = sorted(_RUNS.glob(f"*/{CHECKPOINT_NAME}"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise UsageError("there is no run to resume in runs/", hint="say which with -o DIR")
    return found[-1].parent
