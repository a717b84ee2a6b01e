"""Several trainings in a row, each judged on images that it did not see: folds, or sources left out.

Within a round a part of the training images, whole groups of them, decides which epoch is kept, so
that the images judged on decide nothing. Every round has a folder of its own with a checkpoint;
`--resume` goes on where it stopped.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.errors import UsageError
from config.text import printable
from trainer.data.dataset import Dataset
from trainer.data.splits import folds, split
from trainer.evaluation.baseline import nearest_neighbour
from trainer.evaluation.calibration import fit_decision, fit_shift, positive_class
from trainer.evaluation.ood import fit_limit
from trainer.evaluation.report import by_source, scores
from trainer.images.arrays import Bools, Floats, Ints
from trainer.model.prediction import distances, probabilities
from trainer.model.spec import Decision, Preprocessing
from trainer.networks.bfloat16 import round_to_bfloat16
from trainer.networks.classifier import Classifier
from trainer.networks.inference import pick_device, predict
from trainer.training.checkpoint import Checkpoint
from trainer.training.config import Reporter, RunConfig
from trainer.training.loop import fit
from trainer.training.prepare import (
    groups_of,
    load_images,
    network_of,
    pictures_of,
    plan_of,
    refuse_too_few,
    setting_of,
)
from trainer.training.run import CHECKPOINT_NAME

# Of the images a round may learn from, so much decides which epoch is kept.
_DECIDING_SHARE = 0.12
_MOST_FOLDS = 20


@dataclass(frozen=True, slots=True)
class Fold:
    """One training: what it may learn from and what it is judged on, places in the dataset."""

    name: str
    known: Ints
    judged: Ints


@dataclass(frozen=True, slots=True)
class FoldPredictions:
    """What a round's network said of the images it was judged on."""

    name: str
    places: Ints  # (n,)
    logits: Floats  # (n, classes)
    inside: Bools  # (n,), within its distance limit
    decision: Decision  # fitted on the images that decided its epoch
    best_epoch: int


def run_folds(request: RunConfig, count: int, reporter: Reporter) -> dict[str, Any]:
    """Train `count` networks and return the out-of-fold figures of all images.

    Probabilities of a fold are calibrated on the other folds, and the threshold is the mean of those that
    the other folds gave: no image has a part in how it is judged itself.
    """
    dataset, groups = _begin(request, reporter)
    if not 2 <= count <= min(_MOST_FOLDS, len(np.unique(groups))):
        raise UsageError(f"--folds {count} cannot be", hint=f"from 2 to {_MOST_FOLDS}, and fewer than groups")
    parts = folds(dataset.labels, groups, dataset.sources, count, request.plan.seed)
    rounds = [Fold(f"fold-{n}", known, judged) for n, (known, judged) in enumerate(parts, start=1)]
    judgements = [_train(request, dataset, groups, one, reporter) for one in rounds]
    nearest = [nearest_neighbour(dataset.pictures, dataset.labels, *part)["accuracy"] for part in parts]
    sizes = [len(judged) for _, judged in parts]
    shares, thresholds = _calibrated(request, dataset, judgements)
    report = {
        "kind": "folds",
        **_head(request, dataset, groups),
        "out_of_fold": _out_of_fold(dataset, groups, shares, thresholds),
        "by_fold": {one.name: _figures(dataset, groups, one) for one in judgements},
        "nearest_neighbour": {"accuracy": round(float(np.average(nearest, weights=sizes)), 6)},
    }
    _write(request, dataset, judgements, [shares[one.places] for one in judgements], report)
    _draw(dataset, shares, report["out_of_fold"], request.output)
    return report


def run_left_out(request: RunConfig, names: Sequence[str], reporter: Reporter) -> dict[str, Any]:
    """Train one network per left-out source (or centre) and return how each does there.

    `names` are sources or beginnings of file names; without any, every source takes its turn.
    """
    dataset, groups = _begin(request, reporter)
    rounds = []
    for name in names or dataset.source_names:
        judged = np.array(
            [image.source == name or image.path.name.startswith(name) for image in dataset.files], dtype=bool
        )
        if not judged.any():
            raise UsageError(
                f"no source and no file name begins with {printable(name)}",
                hint=f"sources are {', '.join(map(printable, dataset.source_names))}",
            )
        # What has a near-duplicate there is not learnt from either.
        related = np.isin(groups, np.unique(groups[judged])) & ~judged
        known = np.flatnonzero(~judged & ~related)
        rounds.append(Fold(name, known, np.flatnonzero(judged)))
        if related.any():
            reporter.say(
                f"{int(related.sum())} twins of {printable(name)} elsewhere take no part in its round"
            )
    judgements = [_train(request, dataset, groups, one, reporter) for one in rounds]
    report = {
        "kind": "left_out",
        **_head(request, dataset, groups),
        "left_out": {one.name: _figures(dataset, groups, one) for one in judgements},
    }
    shares = [probabilities(one.logits, one.decision.temperature) for one in judgements]
    _write(request, dataset, judgements, shares, report)
    return report


def _begin(request: RunConfig, reporter: Reporter) -> tuple[Dataset, Ints]:
    dataset = load_images(request, reporter)
    groups = groups_of(dataset, request.groups)
    reporter.say(f"{len(dataset)} images in {len(np.unique(groups))} groups")
    return dataset, groups


def _train(
    request: RunConfig, dataset: Dataset, groups: Ints, one: Fold, reporter: Reporter
) -> FoldPredictions:
    labels, sources = dataset.labels[one.known], dataset.sources[one.known]
    learnt, deciding = split(labels, groups[one.known], sources, _DECIDING_SHARE, request.plan.seed)
    train, validation = one.known[learnt], one.known[deciding]
    refuse_too_few(dataset, train, validation)
    reporter.say(
        f"{printable(one.name)}: {len(train)}+{len(validation)} to learn from, {len(one.judged)} judged"
    )
    device = pick_device(request.device)
    network = network_of(request, dataset, train)
    folder = request.output / one.name.replace("/", "_")
    folder.mkdir(parents=True, exist_ok=True)
    trained = fit(
        network,
        pictures_of(dataset, train, validation),
        plan_of(request, dataset.classes),
        device,
        reporter,
        checkpoint=Checkpoint(folder / CHECKPOINT_NAME),
        resume=request.resume,
        setting=setting_of(request, dataset, train),
    )
    round_to_bfloat16(network, request.image_size)
    return _judge(request, dataset, one, network, train, validation, trained.best_epoch, device)


def _judge(
    request: RunConfig,
    dataset: Dataset,
    one: Fold,
    network: Classifier,
    train: Ints,
    validation: Ints,
    best_epoch: int,
    device: torch.device,
) -> FoldPredictions:
    pictures, labels = dataset.pictures, dataset.labels
    said, _ = predict(network, pictures[validation], device)
    shift = fit_shift(said, labels[validation])
    network.shift_logits(shift)
    decision = fit_decision(said + shift, labels[validation], dataset.classes, request.sensitivity)
    limit, tensors = fit_limit(
        network,
        pictures_of(dataset, train, validation),
        device,
        Preprocessing(image_size=request.image_size),
        request.plan.seed,
    )
    logits, found = predict(network, pictures[one.judged], device)
    inside = distances(found, tensors) <= limit.max_distance
    return FoldPredictions(one.name, one.judged, logits, inside, decision, best_epoch)


def _figures(dataset: Dataset, groups: Ints, one: FoldPredictions) -> dict[str, Any]:
    """Return a round's figures, with the threshold it had before it saw these images."""
    return {
        "best_epoch": one.best_epoch,
        "rejected": round(float(1 - one.inside.mean()), 6),
        **scores(one.logits, dataset.labels[one.places], groups[one.places], one.decision, dataset.classes),
    }


def _calibrated(
    request: RunConfig, dataset: Dataset, judgements: Sequence[FoldPredictions]
) -> tuple[Floats, list[float]]:
    """Return out-of-fold probabilities (n, classes), and each fold's threshold, as the other folds set them.

    The few images that decided a fold's epoch set its biases too roughly; the other folds' images, all
    unseen by their networks, set them better.
    """
    shares = np.empty((len(dataset), len(dataset.classes)), dtype=np.float32)
    thresholds = []
    for one in judgements:
        others = [other for other in judgements if other is not one]
        logits = np.concatenate([other.logits for other in others])
        labels = np.concatenate([dataset.labels[other.places] for other in others])
        shift = fit_shift(logits, labels)
        decision = fit_decision(logits + shift, labels, dataset.classes, request.sensitivity)
        shares[one.places] = probabilities(one.logits + shift, decision.temperature)
        thresholds.append(decision.threshold)
    return shares, thresholds


def _out_of_fold(
    dataset: Dataset, groups: Ints, shares: Floats, thresholds: Sequence[float]
) -> dict[str, Any]:
    """Return the figures of all images, each decided with what was fitted on the other folds."""
    everything = np.arange(len(dataset))
    log_shares = np.log(np.clip(shares, 1e-7, 1)).astype(np.float32)  # a softmax of it is the shares again
    positive = positive_class(dataset.classes)
    middle = Decision(positive=positive, threshold=float(np.mean(thresholds)))
    even = Decision(positive=positive, threshold=0.5)
    return {
        **scores(log_shares, dataset.labels, groups, middle, dataset.classes),
        "at_one_half": scores(log_shares, dataset.labels, groups, even, dataset.classes),
        "by_source": by_source(log_shares, everything, dataset, groups, middle),
        "thresholds": [round(float(value), 6) for value in thresholds],
    }


def _head(request: RunConfig, dataset: Dataset, groups: Ints) -> dict[str, Any]:
    return {
        "command": request.command,
        "architecture": request.architecture,
        "image_size": request.image_size,
        "plan": asdict(plan_of(request, dataset.classes)),
        "images": len(dataset),
        "groups": len(np.unique(groups)),
        "classes": list(dataset.classes),
        "split": "random: near-duplicates leak" if request.groups == "none" else "by group",
    }


def _write(
    request: RunConfig,
    dataset: Dataset,
    judgements: Sequence[FoldPredictions],
    shares: Sequence[Floats],
    report: dict[str, Any],
) -> None:
    """Write the report and, of every round, the calibrated probabilities (n, classes) in `shares`."""
    place = request.output
    (place / "rounds.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    with (place / "predictions.csv").open(
        "w", newline="", encoding="utf-8", errors="surrogateescape"
    ) as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "round", "inside", *(f"p_{name}" for name in dataset.classes)])
        for one, said in zip(judgements, shares, strict=True):
            for row, number in enumerate(one.places.tolist()):
                image = dataset.files[number]
                told = [f"{share:.6f}" for share in said[row]]
                writer.writerow([image.name, image.label, one.name, int(one.inside[row]), *told])


def _draw(dataset: Dataset, shares: Floats, whole: dict[str, Any], place: Path) -> None:
    """Draw what the folds together said, (n, classes), and what became of it."""
    from trainer.evaluation.plots import draw_confusion, draw_scores

    draw_confusion(whole["confusion"], dataset.classes, place / "confusion.png")
    positive = positive_class(dataset.classes)
    if positive is not None:
        chosen = dataset.classes.index(positive)
        draw_scores(
            shares[:, chosen].astype(np.float64),
            (dataset.labels == chosen).astype(np.int64),
            whole["threshold"],
            place / "scores.png",
        )


def rounds_text(report: dict[str, Any], output: Path) -> str:
    """Return the table that ends such a run."""
    names = ("accuracy", "sensitivity", "specificity", "roc_auc", "ece")
    rows: list[tuple[str, ...]] = [("", "images", *names, "rejected")]
    table = report.get("by_fold") or report["left_out"]
    whole = {"all, out of fold": report["out_of_fold"]} if "out_of_fold" in report else {}
    half = {"the same at 0.5": whole["all, out of fold"]["at_one_half"]} if whole else {}
    for name, figures in {**table, **whole, **half}.items():
        rejected = f"{figures['rejected']:.1%}" if "rejected" in figures else "-"
        rows.append(
            (printable(name), str(figures["count"]), *(_cell(figures.get(key)) for key in names), rejected)
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(
            zip(row, widths, strict=True)))
        for row in rows
    ]  # fmt: skip
    if "nearest_neighbour" in report:
        lines.append(
            f"nearest neighbour: accuracy {report['nearest_neighbour']['accuracy']:.3f} on the same folds"
        )
    lines.append(f"Figures, predictions and pictures are in {printable(str(output))}")
    return "\n".join(lines)


def _cell(figure: Any) -> str:
    value = figure.get("value") if isinstance(figure, dict) else None
    if value is None:
        return "-"
    low, high = figure.get("low"), figure.get("high")
    return f"{value:.3f}" if low is None else f"{value:.3f} ({low:.3f}-{high:.3f})"
