"""Record of a run: what its folder tells of it, finished or not, without torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from config.errors import UsageError
from config.text import printable
from trainer.runs.run_file import RUN_FILE, read_run_file
from trainer.training.config import Epoch
from trainer.training.run_folder import CHECKPOINT_NAME, METRICS_NAME, is_running

_HISTORY_NAME = "history.csv"
_LONGEST_HEADER = 100 << 20  # bytes; safetensors' own limit
FINISHED, INTERRUPTED, RUNNING = "finished", "interrupted", "running"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as its folder tells it."""

    folder: Path
    state: str
    when: datetime  # of its last file, local time
    options: Mapping[str, Any]  # as in run.toml; {} of a run from before there was one
    history: tuple[Epoch, ...]
    metrics: Mapping[str, Any]  # as in metrics.json; {} until a run is finished

    @property
    def architecture(self) -> str:
        """The name of its network, "?" if nothing tells it."""
        return str(self.options.get("arch") or self.metrics.get("architecture") or "?")

    @property
    def best(self) -> Epoch | None:
        """The epoch with the smallest validation loss."""
        return min(self.history, key=lambda row: row.val_loss) if self.history else None

    @property
    def epochs(self) -> int | None:
        """How many epochs it is to have at most."""
        found = self.options.get("epochs") or self.metrics.get("plan", {}).get("epochs")
        return None if found is None else int(found)

    @property
    def data(self) -> str:
        """The names of the folders it learns from."""
        named = [Path(one).name for one in self.options.get("data", ())]
        sources = [one.get("source", "?") for one in self.metrics.get("provenance", {}).get("data", ())]
        return ", ".join(map(str, named or sources)) or "?"


def read_run(folder: Path) -> RunRecord:
    """Return what a folder tells of the run in it; raise UsageError if there is none, or it is damaged."""
    shown = printable(str(folder))
    files = [folder / name for name in (RUN_FILE, METRICS_NAME, CHECKPOINT_NAME)]
    there = [path for path in files if path.is_file()]
    if not there:
        raise UsageError(f"there is no run in {shown}", hint="bt-train list shows those in runs/")
    try:
        metrics = json.loads(files[1].read_text(encoding="utf-8")) if files[1] in there else {}
        options = read_run_file(files[0]).values if files[0] in there else {}
        history = _history(folder)
        when = datetime.fromtimestamp(max(path.stat().st_mtime for path in there)).astimezone()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"the run in {shown} cannot be read: {printable(str(error)[:100])}") from error
    running = is_running(folder)
    state = RUNNING if running else FINISHED if metrics else INTERRUPTED
    return RunRecord(folder, state, when, options, history, metrics)


def find_runs(root: Path) -> list[RunRecord]:
    """Return the runs in a folder, and the folder itself if it is one, the oldest first.

    Raises UsageError if the folder is not there.
    """
    if not root.is_dir():
        raise UsageError(
            f"there is no folder {printable(str(root))}",
            hint="train with bt-train --data DIR, or name another",
        )
    found = []
    for folder in [root, *sorted(path for path in root.iterdir() if path.is_dir())]:
        if any((folder / name).is_file() for name in (RUN_FILE, METRICS_NAME, CHECKPOINT_NAME)):
            found.append(read_run(folder))
    return sorted(found, key=lambda run: run.when)


def _history(folder: Path) -> tuple[Epoch, ...]:
    """Return the epochs of a run, from its checkpoint, which is there from the first one on."""
    checkpoint, table = folder / CHECKPOINT_NAME, folder / _HISTORY_NAME
    if checkpoint.is_file():
        stored = _stored(checkpoint)
        return tuple(Epoch(**row) for row in stored.get("history", ()))
    if not table.is_file():
        return ()
    with table.open(newline="") as stream:
        return tuple(
            Epoch(int(row["epoch"]), *(float(value) for name, value in row.items() if name != "epoch"))
            for row in csv.DictReader(stream)
        )


def _stored(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint holds beside tensors, from the head of its file (safetensors' format)."""
    with checkpoint.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _LONGEST_HEADER:
            raise ValueError(f"{checkpoint.name} is no safetensors file")
        metadata = json.loads(stream.read(length)).get("__metadata__", {})
    for key, text in metadata.items():
        if key.startswith("bt_daemon.training."):
            stored: dict[str, Any] = json.loads(text)
            return stored
    return {}
