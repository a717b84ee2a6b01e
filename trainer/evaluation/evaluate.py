"""`bt-train eval`: how a weights file does on labelled images, by source, with what it rejects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.text import printable
from trainer.data.dataset import Collection, Dataset, Progress
from trainer.data.groups import group_ids, near_duplicates
from trainer.evaluation.report import scores, series_figures
from trainer.evaluation.tables import COLUMNS, figure_cell, text_table
from trainer.images.arrays import Bools
from trainer.model.prediction import Verdict, judge
from trainer.model.seen import seen_warning
from trainer.model.series_rule import SeriesRule
from trainer.model.weights import Weights, read_weights
from trainer.networks.inference import predict
from trainer.networks.loading import load


def evaluate(
    weights_path: Path, collection: Collection, device: torch.device, progress: Progress | None = None
) -> dict[str, Any]:
    """Return every metric with its group-bootstrap interval, for all images and for each source.

    Rejected images count too, by the class they would have been given: the share rejected stands beside.
    Where series are known (see `Collection`) their figures stand under "series".
    """
    weights = read_weights(weights_path)
    spec = weights.spec
    dataset = collection.load(spec.preprocessing, progress)
    labels = dataset.labels_in(spec.classes)
    groups = group_ids(dataset.hashes, near_duplicates(dataset.pictures), dataset.patients)
    logits, features = predict(load(weights).to(device), dataset.pictures, device)
    verdicts = np.array([one.verdict for one in judge(logits, features, spec, weights.tensors)])

    def figures(here: Bools) -> dict[str, Any]:
        return {
            "rejected": round(float((verdicts[here] == Verdict.REJECTED).mean()), 6),
            "uncertain": round(float((verdicts[here] == Verdict.UNCERTAIN).mean()), 6),
            **scores(logits[here], labels[here], groups[here], spec.decision, spec.classes),
        }

    return {
        "weights_sha256": weights.sha256,
        "all": figures(np.ones(len(labels), dtype=bool)),
        "by_source": {
            name: figures(dataset.sources == number) for number, name in enumerate(dataset.source_names)
        },
        "series": series_figures(
            dataset.memberships, logits, labels, verdicts != Verdict.REJECTED, SeriesRule.of(spec)
        ),
        "unreadable": len(dataset.unreadable),
        "excluded": dataset.excluded_text,
        "warning": warning_of(weights, dataset),
    }


def warning_of(weights: Weights, dataset: Dataset) -> str:
    """Return in one line that the model knows some of the images, "" if it knows none."""
    sources = [str(one.get("source", "")) for one in weights.spec.provenance.data]
    return seen_warning(weights.seen, sources, dataset.hashes, dataset.source_names)


def evaluation_text(report: Mapping[str, Any]) -> str:
    """Return the report as a table, one line per source, and one of the series below."""
    rows = [
        (
            printable(source),
            str(figures["count"]),
            *(figure_cell(figures.get(name)) for name in COLUMNS),
            f"{figures['rejected']:.1%}",
            f"{figures['uncertain']:.1%}",
        )
        for source, figures in {"all": report["all"], **report["by_source"]}.items()
    ]
    table = text_table(("", "images", *COLUMNS, "rejected", "uncertain"), rows)
    parts = [table]
    if series := report["series"]:
        cells = (str(series["count"]), *(figure_cell(series[name], interval=True) for name in COLUMNS))
        shown = (*cells, f"{series['rejected']:.1%}", f"{series['uncertain']:.1%}")
        parts.append(
            text_table(
                (f"of {series['patients']} patients", "series", *COLUMNS, "rejected", "uncertain"),
                [("all", *shown)],
            )
        )
    return "\n".join([*parts, *([report["excluded"]] if report.get("excluded") else [])])
