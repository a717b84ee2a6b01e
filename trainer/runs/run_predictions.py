"""Predictions that a run has stored: of its validation images, and out of fold."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from config.errors import UsageError
from config.text import printable
from trainer.images.arrays import Doubles, Ints
from trainer.runs.run_record import RunRecord
from trainer.training.run_folder import PREDICTIONS_NAME

VALIDATION, OUT_OF_FOLD = "validation", "out of fold"


@dataclass(frozen=True, slots=True)
class RunPredictions:
    """What a run said of images that it had not learnt from."""

    images: tuple[str, ...]  # (n,), sha256 of the files
    classes: tuple[str, ...]
    labels: Ints  # (n,)
    groups: Ints  # (n,), of this run: numbers of patients and near-duplicates
    probabilities: Doubles  # (n, classes)
    positive: str | None
    threshold: float

    def of(self, images: list[str]) -> RunPredictions:
        """Return those of some images (k,), in their order."""
        places = {image: place for place, image in enumerate(self.images)}
        some = np.array([places[image] for image in images], dtype=np.int64)
        return RunPredictions(
            tuple(images), self.classes, self.labels[some], self.groups[some], self.probabilities[some],
            self.positive, self.threshold,
        )  # fmt: skip


def read_predictions_of(run: RunRecord, kind: str) -> RunPredictions | None:
    """Return what a run has stored of a kind, None if it has not; raise UsageError if that is damaged."""
    folder = run.folder / "folds" if kind == OUT_OF_FOLD else run.folder
    path = folder / PREDICTIONS_NAME
    if not path.is_file() or not run.metrics:
        return None
    try:
        positive, threshold = _decision(run, kind)
        return _read(path, positive, threshold)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(
            f"cannot read {printable(str(path))}: {printable(repr(error)[:100])}",
            hint=f"train anew, or compare without {printable(str(run.folder))}",
        ) from error


def _decision(run: RunRecord, kind: str) -> tuple[str | None, float]:
    decision = run.metrics["decision"]
    if kind == OUT_OF_FOLD:
        figures = run.metrics["metrics"]["out_of_fold"]
        return decision["positive"], float(figures.get("threshold", 0.5))
    return decision["positive"], float(decision["threshold"])


def _read(path: Path, positive: str | None, threshold: float) -> RunPredictions | None:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or "sha256" not in rows[0]:
        return None  # of a version that did not store which images they are
    classes = tuple(name.removeprefix("p_") for name in rows[0] if name.startswith("p_"))
    return RunPredictions(
        tuple(row["sha256"] for row in rows),
        classes,
        np.array([classes.index(row["label"]) for row in rows], dtype=np.int64),
        np.array([int(row["group"]) for row in rows], dtype=np.int64),
        np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows], dtype=np.float64),
        positive,
        threshold,
    )
