"""Fit what a model says to images of one's own, without training it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.errors import DataError
from config.text import printable
from trainer.data.dataset import Collection, Progress
from trainer.data.groups import group_ids, near_duplicates
from trainer.evaluation.calibration import fit_decision
from trainer.evaluation.evaluate import warning_of
from trainer.evaluation.report import distance_quantiles, score_quantiles, scores
from trainer.evaluation.tables import figure_cell
from trainer.images.arrays import Floats
from trainer.model.identity import check_new_file
from trainer.model.prediction import distances
from trainer.model.reference import Reference, stored_reference
from trainer.model.seen import Seen
from trainer.model.spec import SPEC_FORMAT, Decision, Provenance, SeriesDecision
from trainer.model.weights import Weights, read_weights, write_weights
from trainer.networks.classifier import Classifier
from trainer.networks.inference import predict, reference_of
from trainer.networks.loading import load

# With fewer images of a class a threshold is a guess.
_FEWEST = 20


@dataclass(frozen=True, slots=True)
class Recalibration:
    """What a recalibration is asked to do."""

    weights: Path
    output: Path  # the new weights file
    sensitivity: float  # that the threshold is to reach (lower bound)
    command: str  # as the provenance tells it


def recalibrate(
    config: Recalibration, collection: Collection, progress: Progress | None = None
) -> dict[str, Any]:
    """Write a copy of a weights file whose temperature, threshold and band fit labelled images.

    The network stays as it is; the distance limit too. From then on the daemon compares what it sees with
    these images, no longer with those of the training's validation. Returns the decision before and after
    with the figures of both on these images, which lean to the good side for the new one, fitted on them.
    """
    check_new_file(config.output)
    weights = read_weights(config.weights)
    spec = weights.spec
    dataset = collection.load(spec.preprocessing, progress)
    labels = dataset.labels_in(spec.classes)
    fewest = int(np.bincount(labels, minlength=len(spec.classes)).min())
    if fewest < _FEWEST:
        raise DataError(
            f"a class has only {fewest} images", hint=f"give at least {_FEWEST} of each, better hundreds"
        )
    network = load(weights)
    logits, features = predict(network, dataset.pictures, torch.device("cpu"))
    decision = fit_decision(logits, labels, spec.classes, config.sensitivity)
    groups = group_ids(dataset.hashes, near_duplicates(dataset.pictures), dataset.patients)
    own = {"count": len(labels), "groups": len(np.unique(groups)), **_distances(features, weights)}
    own["score_quantiles"] = score_quantiles(logits, decision, spec.classes)
    made = _provenance(weights, config.command, own)
    series = _of_other_temperature(spec.series, decision.temperature / spec.decision.temperature)
    digest = write_weights(
        config.output,
        replace(spec, decision=decision, series=series, provenance=made, format=SPEC_FORMAT),
        weights.tensors | reference_answers(weights, network).tensors(),
        weights.seen | Seen.of(fitted=dataset.hashes),
    )
    return {
        "warning": warning_of(weights, dataset),
        "excluded": dataset.excluded_text,
        "weights": {"file": config.output.name, "sha256": digest},
        "before": _decided(spec.decision, scores(logits, labels, groups, spec.decision, spec.classes)),
        "after": _decided(decision, scores(logits, labels, groups, decision, spec.classes)),
    }


def _provenance(weights: Weights, command: str, own: dict[str, Any]) -> Provenance:
    """Return where the new file comes from: a command more, and the figures of one's own images."""
    before = weights.spec.provenance
    metrics = before.metrics | {"recalibration": own}
    return replace(before, command=f"{before.command}\n{command}".strip(), metrics=metrics)


def _distances(features: Floats, weights: Weights) -> dict[str, Any]:
    """Return what the images' distances (from features (n, d)) are like, {} for a model without a limit."""
    limit = weights.spec.out_of_distribution
    if limit is None:
        return {}
    found = distances(features, weights.tensors)
    return {
        "distance_quantiles": distance_quantiles(found),
        "rejected": float((found > limit.max_distance).mean()),
    }


def _of_other_temperature(series: SeriesDecision | None, ratio: float) -> SeriesDecision | None:
    """Return the decision about series for slices whose logits are divided by so much more: as it was."""
    return None if series is None else replace(series, scale=series.scale * ratio)


def reference_answers(weights: Weights, network: Classifier) -> Reference:
    """Return the reference answers of where it was trained, or for a file that has none, of here."""
    stored = stored_reference(weights.tensors, len(weights.spec.classes))
    return stored or reference_of(network, weights.spec.preprocessing)


def recalibration_text(report: Mapping[str, Any], output: Path) -> str:
    """Return the two decisions side by side, and where the new one was written."""
    lines = [report["excluded"]] if report["excluded"] else []
    for when in ("before", "after"):
        decision, figures = report[when]["decision"], report[when]["figures"]
        shown = [
            f"{name} {cell}"
            for name in ("accuracy", "sensitivity", "specificity", "ece")
            if (cell := figure_cell(figures.get(name))) != "-"
        ]
        lines.append(
            f"{when:<7} temperature {decision['temperature']:.3f}, threshold {decision['threshold']:.3f}: "
            + ", ".join(shown)
        )
    file, digest = printable(str(output)), report["weights"]["sha256"][:8]
    lines += [
        f"{file} is written (sha256 {digest}): temperature, threshold and uncertain band are new, "
        "the network is the same.",
        f"Use it with: bt-daemon watch --weights {file}",
    ]
    return "\n".join(lines)


def _decided(decision: Decision, figures: dict[str, Any]) -> dict[str, Any]:
    fields = {name: getattr(decision, name) for name in ("temperature", "positive", "threshold")}
    return {"decision": fields, "figures": figures}
