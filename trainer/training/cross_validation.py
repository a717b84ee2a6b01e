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
from typing import Any

import numpy as np

from config.errors import DataError, UsageError
from config.text import printable
from trainer.data.memberships import numbered
from trainer.data.splits import folds, split
from trainer.evaluation.baseline import nearest_neighbour
from trainer.evaluation.calibrated import calibrate_network
from trainer.evaluation.calibration import fit_decision, fit_pooled_decision, fit_shift, positive_class
from trainer.evaluation.metrics import balanced_weights, pooled_over_sources
from trainer.evaluation.plots import draw_confusion, draw_scores
from trainer.evaluation.report import by_source, scores
from trainer.evaluation.series_rules import compare_rules
from trainer.evaluation.slices import JudgedSlices
from trainer.images.arrays import Bools, Floats, Ints
from trainer.model.prediction import probabilities
from trainer.model.spec import Decision
from trainer.networks.inference import predict
from trainer.training.checkpoint import Checkpoint
from trainer.training.config import Reporter, RunConfig
from trainer.training.loop import fit
from trainer.training.prepare import Experiment, images_named, open_experiment
from trainer.training.run_folder import CHECKPOINT_NAME, PREDICTIONS_NAME

# Of the images a round may learn from, so much decides which epoch is kept.
_DECIDING_SHARE = 0.12
_MOST_FOLDS = 20


@dataclass(frozen=True, slots=True)
class Fold:
    """One training: what it may learn from and what it is judged on, indices into the dataset."""

    name: str
    known: Ints
    judged: Ints


@dataclass(frozen=True, slots=True)
class FoldPredictions:
    """What a round's network said of the images it was judged on."""

    name: str
    indices: Ints  # (n,)
    logits: Floats  # (n, classes)
    inside: Bools  # (n,), within its distance limit
    decision: Decision  # fitted on the images that decided its epoch
    best_epoch: int
    deciding: Ints  # (m,), the images that decided its epoch
    deciding_logits: Floats  # (m, classes)


def run_folds(config: RunConfig, count: int, reporter: Reporter) -> dict[str, Any]:
    """Train `count` networks and return the out-of-fold figures of all images.

    Probabilities of a fold are calibrated on the other folds, and the threshold is the mean of those that
    the other folds gave: no image has a part in how it is judged itself.
    """
    experiment = _open(config, reporter)
    dataset, groups = experiment.dataset, experiment.groups
    if not 2 <= count <= min(_MOST_FOLDS, len(np.unique(groups))):
        raise UsageError(f"--folds {count} cannot be", hint=f"from 2 to {_MOST_FOLDS}, and fewer than groups")
    parts = folds(dataset.labels, groups, dataset.sources, count, config.plan.seed)
    rounds = [Fold(f"fold-{n}", known, judged) for n, (known, judged) in enumerate(parts, start=1)]
    results = [_train(experiment, fold, reporter) for fold in rounds]
    nearest = [nearest_neighbour(dataset.pictures, dataset.labels, *part)["accuracy"] for part in parts]
    sizes = [len(judged) for _, judged in parts]
    likely, thresholds = _calibrated(experiment, results)
    report = {
        "kind": "folds",
        **_head(experiment),
        "out_of_fold": _out_of_fold(experiment, likely, thresholds),
        "by_fold": {fold.name: _figures(experiment, fold) for fold in results},
        "nearest_neighbour": {"accuracy": round(float(np.average(nearest, weights=sizes)), 6)},
    }
    by_fold = [likely[fold.indices] for fold in results]
    _write_predictions(experiment, results, by_fold)
    report |= _series(experiment, results, by_fold)
    _write_report(experiment, report)
    _draw(experiment, likely, report["out_of_fold"])
    return report


def run_left_out(config: RunConfig, names: Sequence[str], reporter: Reporter) -> dict[str, Any]:
    """Train one network per left-out source (or centre) and return how each does there.

    `names` are sources or beginnings of file names; without any, every source takes its turn.
    """
    experiment = _open(config, reporter)
    rounds = [_without(experiment, name, reporter) for name in names or experiment.dataset.source_names]
    results = [_train(experiment, fold, reporter) for fold in rounds]
    report = {
        "kind": "left_out",
        **_head(experiment),
        "left_out": {fold.name: _figures(experiment, fold) for fold in results},
        "pooled": _pooled(experiment, results),
    }
    # As the model will say it, whose temperature this is.
    likely = [probabilities(fold.logits, report["pooled"]["decision"]["temperature"]) for fold in results]
    _write_predictions(experiment, results, likely)
    report |= _series(experiment, results, likely)
    _write_report(experiment, report)
    return report


def _series(
    experiment: Experiment, results: Sequence[FoldPredictions], likely: Sequence[Floats]
) -> dict[str, Any]:
    """Return under "series" what rules for series make of probabilities (n, classes) of every round.

    Nothing where no patients are known, or too few of them to say anything.
    """
    dataset, positive = experiment.dataset, positive_class(experiment.dataset.classes)
    if positive is None or experiment.config.groups == "none":
        return {}
    # An image that two rounds judged counts once.
    indices, once = np.unique(np.concatenate([fold.indices for fold in results]), return_index=True)
    place = dataset.classes.index(positive)
    judged = JudgedSlices(
        [dataset.memberships[index] for index in indices.tolist()],
        np.concatenate(likely)[once, place].astype(np.float64),
        dataset.labels[indices] == place,
        np.concatenate([fold.inside for fold in results])[once],
    )
    try:
        return {"series": compare_rules(judged.series())}
    except DataError:
        return {}  # no series both with a tumour and without


def _open(config: RunConfig, reporter: Reporter) -> Experiment:
    experiment = open_experiment(config, reporter)
    reporter.say(f"{len(experiment.dataset)} images in {len(np.unique(experiment.groups))} groups")
    return experiment


def _without(experiment: Experiment, name: str, reporter: Reporter) -> Fold:
    """Return the round that is judged on a source; what has a near-duplicate there is not learnt from."""
    dataset, groups = experiment.dataset, experiment.groups
    judged = images_named(dataset, [name])
    if not judged.any():
        raise UsageError(
            f"no source and no file name begins with {printable(name)}",
            hint=f"sources are {', '.join(map(printable, dataset.source_names))}",
        )
    related = np.isin(groups, np.unique(groups[judged])) & ~judged
    if related.any():
        reporter.say(f"{int(related.sum())} twins of {printable(name)} elsewhere take no part in its round")
    return Fold(name, np.flatnonzero(~judged & ~related), np.flatnonzero(judged))


def _train(whole: Experiment, fold: Fold, reporter: Reporter) -> FoldPredictions:
    """Train and calibrate on a part of what a fold may learn from; return its predictions."""
    config, dataset = whole.config, whole.dataset
    labels, sources = dataset.labels[fold.known], dataset.sources[fold.known]
    learnt, deciding = split(labels, whole.groups[fold.known], sources, _DECIDING_SHARE, config.plan.seed)
    experiment = whole.divided(fold.known[learnt], fold.known[deciding])
    reporter.say(
        f"{printable(fold.name)}: {len(learnt)}+{len(deciding)} to learn from, {len(fold.judged)} judged"
    )
    network, data = experiment.new_network(), experiment.training_set
    folder = config.output / fold.name.replace("/", "_")
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(folder / CHECKPOINT_NAME, experiment.setting(), resume=config.resume)
    trained = fit(network, data, experiment.plan, experiment.device, reporter, checkpoint)
    calibrated = calibrate_network(network, data, experiment.calibration, experiment.device)
    logits, features = predict(network, dataset.pictures[fold.judged], experiment.device)
    return FoldPredictions(
        fold.name, fold.judged, logits, calibrated.accepted(features), calibrated.decision,
        trained.best_epoch, experiment.validation, calibrated.logits,
    )  # fmt: skip


def _figures(experiment: Experiment, fold: FoldPredictions) -> dict[str, Any]:
    """Return a round's figures, with the threshold it had before it saw these images."""
    dataset, here = experiment.dataset, fold.indices
    return {
        "best_epoch": fold.best_epoch,
        "rejected": round(float(1 - fold.inside.mean()), 6),
        **scores(fold.logits, dataset.labels[here], experiment.groups[here], fold.decision, dataset.classes),
    }


def _pooled(experiment: Experiment, results: Sequence[FoldPredictions]) -> dict[str, Any]:
    """Return how the rounds rank all that was left out, and the decision that suits it.

    Every left-out source counts the same. For the decision the images that decided the rounds' epochs, of
    sources that were learnt from, count as much as those left out: the model will see both.
    """
    labels, classes = experiment.dataset.labels, experiment.dataset.classes
    truth, rounds = _rounds([labels[fold.indices] for fold in results])
    known, known_rounds = _rounds([labels[fold.deciding] for fold in results])
    left_out = np.concatenate([fold.logits for fold in results])
    deciding = np.concatenate([fold.deciding_logits for fold in results])
    weights = np.concatenate((balanced_weights(truth, rounds), balanced_weights(known, known_rounds)))
    decision = fit_pooled_decision(
        np.concatenate((left_out, deciding)), np.concatenate((truth, known)), weights, classes
    )
    figures: dict[str, Any] = {"decision": asdict(decision)}
    if decision.positive is not None:
        index = classes.index(decision.positive)
        likely = probabilities(left_out, decision.temperature)[:, index].astype(np.float64)
        figures |= pooled_over_sources(likely, (truth == index).astype(np.int64), rounds)
    return figures


def _rounds(labels: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Return the labels (n,) of all rounds, and of each its round."""
    rounds = [np.full(len(some), number) for number, some in enumerate(labels)]
    return np.concatenate(labels), np.concatenate(rounds)


def _calibrated(experiment: Experiment, results: Sequence[FoldPredictions]) -> tuple[Floats, list[float]]:
    """Return out-of-fold probabilities (n, classes), and each fold's threshold, as the other folds set them.

    The few images that decided a fold's epoch set its biases too roughly; the other folds' images, all
    unseen by their networks, set them better.
    """
    dataset, sensitivity = experiment.dataset, experiment.config.sensitivity
    likely = np.empty((len(dataset), len(dataset.classes)), dtype=np.float32)
    thresholds = []
    for fold in results:
        others = [other for other in results if other is not fold]
        logits = np.concatenate([other.logits for other in others])
        labels = np.concatenate([dataset.labels[other.indices] for other in others])
        shift = fit_shift(logits, labels)
        decision = fit_decision(logits + shift, labels, dataset.classes, sensitivity)
        likely[fold.indices] = probabilities(fold.logits + shift, decision.temperature)
        thresholds.append(decision.threshold)
    return likely, thresholds


def _out_of_fold(experiment: Experiment, likely: Floats, thresholds: Sequence[float]) -> dict[str, Any]:
    """Return the figures of all images, each decided with what was fitted on the other folds."""
    dataset, groups = experiment.dataset, experiment.groups
    # A softmax of these is the probabilities again.
    logits = np.log(np.clip(likely, 1e-7, 1)).astype(np.float32)
    positive = positive_class(dataset.classes)
    middle = Decision(positive=positive, threshold=float(np.mean(thresholds)))
    even = Decision(positive=positive, threshold=0.5)
    return {
        **scores(logits, dataset.labels, groups, middle, dataset.classes),
        "at_one_half": scores(logits, dataset.labels, groups, even, dataset.classes),
        "by_source": by_source(logits, np.arange(len(dataset)), dataset, groups, middle),
        "thresholds": [round(float(value), 6) for value in thresholds],
    }


def _head(experiment: Experiment) -> dict[str, Any]:
    config, dataset = experiment.config, experiment.dataset
    return {
        "command": config.command,
        "architecture": config.architecture,
        "image_size": config.image_size,
        "plan": asdict(experiment.plan),
        "images": len(dataset),
        "groups": len(np.unique(experiment.groups)),
        "classes": list(dataset.classes),
        "split": experiment.split_name,
    }


def _write_report(experiment: Experiment, report: dict[str, Any]) -> None:
    text = json.dumps(report, indent=1, sort_keys=True) + "\n"
    (experiment.config.output / "rounds.json").write_text(text)


def _write_predictions(
    experiment: Experiment, results: Sequence[FoldPredictions], likely: Sequence[Floats]
) -> None:
    """Write the calibrated probabilities (n, classes) of every round in `likely`.

    Patients and series are numbers: who they are stays in the images and in the groups file.
    """
    folder = experiment.config.output
    with (folder / PREDICTIONS_NAME).open(
        "w", newline="", encoding="utf-8", errors="surrogateescape"
    ) as stream:
        writer = csv.writer(stream)
        names = experiment.dataset.classes
        known = ("patient", "series", "position", "sha256", "group")
        writer.writerow(["file", "label", "round", "inside", *(f"p_{name}" for name in names), *known])
        numbers = numbered(experiment.dataset.memberships)
        for fold, rows in zip(results, likely, strict=True):
            writer.writerows(_prediction_rows(experiment, fold, rows, numbers))


def _prediction_rows(
    experiment: Experiment, fold: FoldPredictions, likely: Floats, numbers: Sequence[tuple[str, str, str]]
) -> list[list[Any]]:
    dataset, rows = experiment.dataset, []
    for index, inside, row in zip(fold.indices.tolist(), fold.inside, likely, strict=True):
        image, said = dataset.files[index], [f"{value:.6f}" for value in row]
        known = (*numbers[index], dataset.hashes[index], int(experiment.groups[index]))
        rows.append([image.name, image.label, fold.name, int(inside), *said, *known])
    return rows


def _draw(experiment: Experiment, likely: Floats, figures: dict[str, Any]) -> None:
    """Draw what the folds together said, (n, classes), and what became of it."""
    dataset, folder = experiment.dataset, experiment.config.output
    draw_confusion(figures["confusion"], dataset.classes, folder / "confusion.png")
    positive = positive_class(dataset.classes)
    if positive is not None:
        index = dataset.classes.index(positive)
        draw_scores(
            likely[:, index].astype(np.float64),
            (dataset.labels == index).astype(np.int64),
            figures["threshold"],
            folder / "scores.png",
        )
