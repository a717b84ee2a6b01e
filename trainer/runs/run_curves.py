"""Curves of several runs in one picture: validation loss and accuracy over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from config.text import printable
from trainer.evaluation.plots import draw_several
from trainer.runs.run_record import RunRecord


def draw_run_curves(runs: Sequence[RunRecord], path: Path) -> None:
    """Draw the runs' validation loss, accuracy and, where there is one, AUC; raise OSError."""
    names = [printable(str(run.folder)) for run in runs]
    panels = [("Validation loss", "val_loss"), ("Validation accuracy", "val_accuracy")]
    if any(row.val_auc == row.val_auc for run in runs for row in run.history):  # of two classes
        panels.append(("Validation AUC", "val_auc"))
    draw_several(
        {
            title: [
                (name, [row.epoch for row in run.history], [getattr(row, field) for row in run.history])
                for name, run in zip(names, runs, strict=True)
            ]
            for title, field in panels
        },
        [run.best.epoch if run.best else 0 for run in runs],
        path,
    )
