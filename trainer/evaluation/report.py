"""The figures of a set of predictions, as they stand in metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.data.dataset import Dataset
from trainer.data.memberships import ImageMembership
from trainer.evaluation.metrics import measure, measure_classes, pooled_over_sources
from trainer.evaluation.slices import JudgedSlices, patient_numbers
from trainer.images.arrays import Bools, Floats, Ints
from trainer.model.prediction import Verdict, probabilities
from trainer.model.series_rule import SeriesRule
from trainer.model.spec import Decision

# A source without tumours (or without healthy images) has no sensitivity (specificity); with fewer
# images than this its figures say little and are left out.
_SMALLEST_SOURCE = 10
_QUANTILES = 20
_LEVELS = (np.arange(_QUANTILES) + 0.5) / _QUANTILES


def scores(
    logits: Floats,
    labels: Ints,
    groups: Ints,
    decision: Decision,
    classes: tuple[str, ...],
) -> dict[str, Any]:
    """Return every figure of logits (n, classes) for labels (n,), with intervals over groups (n,)."""
    likely = probabilities(logits, decision.temperature).astype(np.float64)
    if decision.positive is None:
        return measure_classes(likely, labels, classes)
    index = classes.index(decision.positive)
    truth = (labels == index).astype(np.int64)
    report = measure(likely[:, index], truth, groups, decision.threshold)
    if index == 0:  # the matrix's order is the classes'
        report["confusion"] = [row[::-1] for row in report["confusion"][::-1]]
    return report


def pooled(logits: Floats, indices: Ints, dataset: Dataset, decision: Decision) -> dict[str, Any]:
    """Return how logits (n, classes) of `indices` rank them, every source and class weighing the same.

    Empty where no class is looked for.
    """
    if decision.positive is None:
        return {}
    index = dataset.classes.index(decision.positive)
    likely = probabilities(logits, decision.temperature).astype(np.float64)
    truth = (dataset.labels[indices] == index).astype(np.int64)
    return pooled_over_sources(likely[:, index], truth, dataset.sources[indices])


def series_figures(
    memberships: Sequence[ImageMembership], logits: Floats, labels: Ints, inside: Bools, rule: SeriesRule
) -> dict[str, Any]:
    """Return every figure of series of at least three slices, {} where none are known.

    Each is judged by the model's rule, from logits (n, classes) of its slices; of a series that the distance
    limit rejects whole all slices vote, as rejected images count too: the share rejected stands beside.
    Intervals are by bootstrap over patients. {} as well for a model that looks for no class.
    """
    positive = rule.decision.positive
    if positive is None:
        return {}
    place = rule.classes.index(positive)
    likely = probabilities(logits, rule.decision.temperature)[:, place].astype(np.float64)
    series = JudgedSlices(memberships, likely, labels == place, inside).series()
    if not series:
        return {}
    answers = [rule.of_scores(one.scores.tolist()) for one in series]
    patients = patient_numbers([one.patient for one in series])
    threshold = (rule.series or rule.decision).threshold
    told = np.array([answer.score for answer in answers], dtype=np.float64)
    truth = np.array([one.has_tumour for one in series], dtype=np.int64)
    return {
        "patients": len(np.unique(patients)),
        "rejected": round(float(np.mean([one.rejected for one in series])), 6),
        "uncertain": round(float(np.mean([one.verdict == Verdict.UNCERTAIN for one in answers])), 6),
        **measure(told, truth, patients, threshold),
    }


def score_quantiles(logits: Floats, decision: Decision, classes: tuple[str, ...]) -> list[float]:
    """Return evenly spaced quantiles of the score that decides, from logits (n, classes).

    The score is the calibrated probability of the positive class, without one the highest.
    """
    likely = probabilities(logits, decision.temperature)
    positive = decision.positive
    score = likely.max(axis=1) if positive is None else likely[:, classes.index(positive)]
    return [round(float(value), 4) for value in np.quantile(score, _LEVELS)]


def distance_quantiles(distances: Floats) -> list[float]:
    """Return evenly spaced quantiles of distances (n,), which the daemon compares those it sees with."""
    return [round(float(value), 4) for value in np.quantile(distances, _LEVELS)]


def by_source(
    logits: Floats,
    indices: Ints,
    dataset: Dataset,
    groups: Ints,
    decision: Decision,
) -> dict[str, Any]:
    """Return the same for each source that has at least ten images among `indices` of the dataset."""
    sources = dataset.sources[indices]
    return {
        name: scores(
            logits[here], dataset.labels[indices][here], groups[indices][here], decision, dataset.classes
        )
        for number, name in enumerate(dataset.source_names)
        if (here := sources == number).sum() >= _SMALLEST_SOURCE
    }
