"""`bt-train eval`: how a weights file does on labelled images, by source, with what it rejects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from config.text import printable
from trainer.data.dataset import Dataset
from trainer.data.groups import group_ids, near_duplicates
from trainer.evaluation.outputs.judged_set import JudgedSet
from trainer.evaluation.report import scores, series_figures
from trainer.evaluation.tables import COLUMNS, figure_cell, text_table
from trainer.images.arrays import Bools
from trainer.model.prediction import Verdict
from trainer.model.seen import seen_warning
from trainer.model.series_rule import SeriesRule
from trainer.model.weights import Weights


def report_of(judged: JudgedSet, trained_on: Dataset | None = None) -> dict[str, Any]:
    """Return every metric with its group-bootstrap interval, for all images and for each source.

    Rejected images count too, by the class they would have been given: the share rejected stands beside.
    Where series are known (see `Collection`) their figures stand under "series". `trained_on` are images the
    model was trained on, to find twins of.
    """
    spec, dataset, labels, logits = judged.weights.spec, judged.dataset, judged.labels, judged.logits
    rejected, uncertain = (judged.with_verdict(one) for one in (Verdict.REJECTED, Verdict.UNCERTAIN))

    def figures(here: Bools) -> dict[str, Any]:
        return {
            "rejected": round(float(rejected[here].mean()), 6),
            "uncertain": round(float(uncertain[here].mean()), 6),
            **scores(logits[here], labels[here], judged.groups[here], spec.decision, spec.classes),
        }

    warnings = [warning_of(judged.weights, dataset), twins_warning(judged, trained_on)]
    return {
        "weights_sha256": judged.weights.sha256,
        "all": figures(np.ones(len(labels), dtype=bool)),
        "by_source": {
            name: figures(dataset.sources == number) for number, name in enumerate(dataset.source_names)
        },
        "series": series_figures(dataset.memberships, logits, labels, ~rejected, SeriesRule.of(spec)),
        "unreadable": len(dataset.unreadable),
        "excluded": dataset.excluded_text,
        "warning": "; ".join(one for one in warnings if one),
    }


def twins_warning(judged: JudgedSet, trained_on: Dataset | None = None) -> str:
    """Return in one line how many images have a twin among those trained on, "" if none has.

    A twin is a near-duplicate (mirrored, or saved anew) or another image of the patient; those of the very
    bytes are told by `warning_of`. Among the images themselves, and among `trained_on`, if that is given.
    """
    dataset, groups = judged.dataset, judged.groups
    known = judged.weights.seen.knows_trained(dataset.hashes)
    twin = np.isin(groups, groups[known]) & ~known
    if trained_on is not None:
        both = np.concatenate((trained_on.pictures, dataset.pictures))
        hashes = (*trained_on.hashes, *dataset.hashes)
        joined = group_ids(hashes, near_duplicates(both), [*trained_on.patients, *dataset.patients])
        twin |= np.isin(joined[len(trained_on) :], joined[: len(trained_on)]) & ~known
    if not (count := int(twin.sum())):
        return ""
    return (
        f"{count} of these {len(dataset)} images have a near-duplicate, a mirror image or their patient "
        "among those trained on: figures on them are too good"
    )


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
