"""List of runs: a line each with date, data, network, epochs, best figures and state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from config.text import printable
from trainer.evaluation.tables import figure_cell, text_table
from trainer.runs.run_record import RunRecord

_HEAD = ("run", "date", "state", "data", "network", "epochs", "best loss", "accuracy", "AUC", "out of fold")


def list_text(runs: Sequence[RunRecord]) -> str:
    """Return a table of runs; accuracy and AUC are those of the best epoch until a run is finished."""
    return text_table(_HEAD, [_row(run) for run in runs])


def list_records(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return the same for programs."""
    return [
        {
            "run": str(run.folder),
            "date": run.when.isoformat(timespec="seconds"),
            "state": run.state,
            "data": run.data,
            "architecture": run.architecture,
            "epochs_done": len(run.history),
            "epochs": run.epochs,
            "best_epoch": run.best.epoch if run.best else None,
            "validation_loss": run.best.val_loss if run.best else None,
            "accuracy": _figure(run, "accuracy"),
            "roc_auc": _figure(run, "roc_auc"),
        }
        for run in runs
    ]


def _row(run: RunRecord) -> tuple[str, ...]:
    folds = run.metrics.get("metrics", {}).get("out_of_fold", {})
    return (
        printable(str(run.folder)),
        f"{run.when:%Y-%m-%d %H:%M}",
        run.state,
        printable(run.data),
        printable(run.architecture),
        f"{len(run.history)}/{run.epochs if run.epochs else '?'}",
        f"{run.best.val_loss:.4f}" if run.best else "-",
        *(_cell(_figure(run, name)) for name in ("accuracy", "roc_auc")),
        figure_cell(folds.get("accuracy")),
    )


def _figure(run: RunRecord, name: str) -> float | None:
    """Return a figure of the validation images: the finished model's, else the best epoch's."""
    if run.metrics:
        found = run.metrics.get("metrics", {}).get("validation", {}).get(name)
        return found.get("value") if isinstance(found, dict) else None
    if run.best is None:
        return None
    value = run.best.val_accuracy if name == "accuracy" else run.best.val_auc
    return None if math.isnan(value) else value


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
