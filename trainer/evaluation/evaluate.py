"""`bt-train eval`: how a weights file does on labelled images, by source, with what it rejects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.errors import DataError
from config.text import printable
from trainer.data.dataset import Dataset, find_images, load_dataset
from trainer.data.groups import group_ids, near_duplicates
from trainer.evaluation.metrics import measure, measure_classes
from trainer.model.prediction import Verdict, judge, probabilities
from trainer.model.seen import seen_warning
from trainer.model.weights import Weights, read_weights
from trainer.networks.inference import predict
from trainer.networks.loading import load


def evaluate(
    weights_path: Path,
    roots: Sequence[Path],
    merge: Mapping[str, str],
    device: torch.device,
    cache: Path,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Return every metric with its group-bootstrap interval, for all images and for each source.

    Rejected images count too, by the class they would have been given: the share rejected stands beside.
    """
    weights = read_weights(weights_path)
    spec = weights.spec
    dataset = load_dataset(find_images(roots, merge), spec.preprocessing, cache, progress=progress)
    unknown = sorted(set(dataset.classes) - set(spec.classes))
    if unknown:
        raise DataError(
            f"the model knows no class {printable(', '.join(unknown))}",
            hint=f"map folders to {', '.join(spec.classes)} with --merge",
        )
    labels = np.array(
        [spec.classes.index(dataset.classes[label]) for label in dataset.labels], dtype=np.int64
    )
    groups = group_ids(dataset.hashes, near_duplicates(dataset.pictures))
    logits, features = predict(load(weights).to(device), dataset.pictures, device)
    verdicts = np.array([one.verdict for one in judge(logits, features, spec, weights.tensors)])
    shares = probabilities(logits, spec.decision.temperature).astype(np.float64)

    def scores(here: Any) -> dict[str, Any]:
        told = {
            "rejected": round(float((verdicts[here] == Verdict.REJECTED).mean()), 6),
            "uncertain": round(float((verdicts[here] == Verdict.UNCERTAIN).mean()), 6),
        }
        if spec.decision.positive is None:
            return told | measure_classes(shares[here], labels[here], spec.classes)
        place = spec.classes.index(spec.decision.positive)
        truth = (labels[here] == place).astype(np.int64)
        return told | measure(shares[here][:, place], truth, groups[here], spec.decision.threshold)

    return {
        "weights_sha256": weights.sha256,
        "all": scores(np.arange(len(labels))),
        "by_source": {
            name: scores(np.flatnonzero(dataset.sources == number))
            for number, name in enumerate(dataset.source_names)
        },
        "unreadable": len(dataset.unreadable),
        "warning": warning_of(weights, dataset),
    }


def warning_of(weights: Weights, dataset: Dataset) -> str:
    """Return in one line that the model knows some of the images, "" if it knows none."""
    sources = [str(one.get("source", "")) for one in weights.spec.provenance.data]
    return seen_warning(weights.seen, sources, dataset.hashes, dataset.source_names)


def evaluation_text(report: Mapping[str, Any]) -> str:
    """Return the report as a table, one line per source."""
    names = ("accuracy", "sensitivity", "specificity", "roc_auc", "ece")
    rows = [("", "images", *names, "rejected", "uncertain")]
    for source, scores in {"all": report["all"], **report["by_source"]}.items():
        rows.append(
            (source, str(scores["count"]), *(_value(scores.get(name)) for name in names),
             f"{scores['rejected']:.1%}", f"{scores['uncertain']:.1%}")
        )  # fmt: skip
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if not place else cell.rjust(width)
                  for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]  # fmt: skip
    return "\n".join(lines)


def _value(figure: Any) -> str:
    value = figure.get("value") if isinstance(figure, dict) else None
    return "-" if value is None else f"{value:.3f}"
