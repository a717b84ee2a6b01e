"""Write what a training run leaves: weights, metrics, history, plots and model card."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.dataset import Dataset
from trainer.data.exclusions import LEAVE_OUT, REJECT
from trainer.evaluation.calibrated import Calibrated
from trainer.evaluation.model_card import write_card
from trainer.evaluation.plots import draw_confusion, draw_curves, draw_scores
from trainer.evaluation.worst_errors import JudgedImages, draw_worst
from trainer.images.arrays import Doubles, Ints
from trainer.model.prediction import probabilities
from trainer.model.seen import Seen
from trainer.model.spec import ModelSpec, Provenance
from trainer.model.weights import read_weights, write_weights
from trainer.networks.cost import gflops, parameters
from trainer.networks.inference import reference_of
from trainer.networks.loading import tensors_of
from trainer.training.config import Epoch
from trainer.training.loop import Trained
from trainer.training.prepare import Experiment
from trainer.training.run_folder import METRICS_NAME, PREDICTIONS_NAME, WEIGHTS_NAME


def write_run(
    experiment: Experiment, calibrated: Calibrated, trained: Trained, report: dict[str, Any]
) -> dict[str, Any]:
    """Write everything into the run's folder; return what metrics.json holds.

    `report` holds the figures, as they stand under "metrics".
    """
    config, network = experiment.config, calibrated.network
    spec = _spec(experiment, calibrated, report)
    reference = reference_of(network.cpu(), experiment.preprocessing)
    tensors = tensors_of(network) | calibrated.tensors | reference.tensors()
    digest = write_weights(config.output / WEIGHTS_NAME, spec, tensors, _seen(experiment))
    _draw_worst(experiment, calibrated)
    _write_predictions(experiment, calibrated)
    whole = {
        "weights": {"file": WEIGHTS_NAME, "sha256": digest},
        "parameters": parameters(network),
        "gflop_per_image": gflops(network, config.image_size),
        **json.loads(spec.to_json()),
        "plan": asdict(experiment.plan),
        "metrics": report,
    }
    text = json.dumps(whole, indent=1, sort_keys=True) + "\n"
    (config.output / METRICS_NAME).write_text(text)
    _write_history(trained.history, config.output / "history.csv")
    draw_curves(trained.history, trained.best_epoch, config.output / "curves.png")
    draw_confusion(report["validation"]["confusion"], spec.classes, config.output / "confusion.png")
    _draw_scores(experiment, calibrated)
    write_card(json.loads(text), config.output / "CARD.md")  # in the order that the file has
    return whole


def _spec(experiment: Experiment, calibrated: Calibrated, report: dict[str, Any]) -> ModelSpec:
    config = experiment.config
    return ModelSpec(
        name=config.name,
        version=datetime.now(UTC).strftime("%Y.%m.%d"),
        architecture=config.architecture,
        classes=experiment.dataset.classes,
        meanings=dict(config.meanings or {}),
        preprocessing=experiment.preprocessing,
        decision=calibrated.decision,
        series=calibrated.series,
        out_of_distribution=calibrated.limit,
        provenance=_provenance(experiment, report),
    )


def _provenance(experiment: Experiment, report: dict[str, Any]) -> Provenance:
    config = experiment.config
    # A run that started from another's weights is made again only by both commands.
    before = read_weights(config.init).spec.provenance.command if config.init is not None else ""
    return Provenance(
        command=f"{before}\n{config.command}".strip(),
        seed=config.plan.seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        software={"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "numpy", "pillow")},
        data=tuple(_sources(experiment)),
        metrics={"validation": report["validation"]},
    )


def _sources(experiment: Experiment) -> list[dict[str, Any]]:
    """Return of each source its name, images per class, images trained on, and its licence where stated."""
    dataset, licences = experiment.dataset, experiment.config.licences or {}
    sources: list[dict[str, Any]] = []
    for number, name in enumerate(dataset.source_names):
        labels = dataset.labels[dataset.sources == number]
        counts = {label: int((labels == index).sum()) for index, label in enumerate(dataset.classes)}
        used = int((dataset.sources[experiment.train] == number).sum())
        source = {"source": name, "images": counts, "trained_on": used}
        sources.append(source | _excluded(dataset, name) | _stated(licences, name))
    return sources


def _excluded(dataset: Dataset, source: str) -> dict[str, dict[str, int]]:
    """Return how many files of a source the exclude list left out, by their use; {} if none."""
    counts = {
        use: sum(image.source == source for image in files)
        for use, files in ((LEAVE_OUT, dataset.left_out), (REJECT, dataset.to_reject))
    }
    return {"excluded": counts} if any(counts.values()) else {}


def _stated(licences: Mapping[str, str], source: str) -> dict[str, str]:
    return {"licence": licences[source]} if source in licences else {}


def _seen(experiment: Experiment) -> Seen:
    """Return which images the model knows: its own, and those of the model it started from."""
    hashes, init = experiment.dataset.hashes, experiment.config.init
    trained, fitted = (
        [hashes[index] for index in part.tolist()] for part in (experiment.train, experiment.validation)
    )
    before = read_weights(init).seen if init is not None else Seen()
    return before | Seen.of(trained=trained, fitted=fitted)


def _answers(experiment: Experiment, calibrated: Calibrated) -> tuple[Doubles, Ints]:
    """Return calibrated probabilities (n, classes) of the validation images, and the class (n,) given."""
    decision = calibrated.decision
    likely = probabilities(calibrated.logits, decision.temperature).astype(np.float64)
    if decision.positive is None:
        return likely, likely.argmax(axis=1)
    positive = experiment.dataset.classes.index(decision.positive)
    return likely, np.where(likely[:, positive] >= decision.threshold, positive, 1 - positive)


def _write_predictions(experiment: Experiment, calibrated: Calibrated) -> None:
    """Write what is said of each validation image; its group is a number, as patients are."""
    dataset, (likely, given) = experiment.dataset, _answers(experiment, calibrated)
    path = experiment.config.output / PREDICTIONS_NAME
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream)
        head = ("file", "sha256", "label", "said", "group")
        writer.writerow([*head, *(f"p_{name}" for name in dataset.classes)])
        for index, row, said in zip(experiment.validation.tolist(), likely, given.tolist(), strict=True):
            image, group = dataset.files[index], int(experiment.groups[index])
            known = (image.name, dataset.hashes[index], image.label, dataset.classes[said], group)
            writer.writerow([*known, *(f"{value:.6f}" for value in row)])


def _draw_worst(experiment: Experiment, calibrated: Calibrated) -> None:
    dataset, validation = experiment.dataset, experiment.validation
    likely, given = _answers(experiment, calibrated)
    judged = JudgedImages(
        images=dataset.pictures[validation],
        names=[dataset.files[index].name for index in validation.tolist()],
        truth=dataset.labels[validation],
        given=given,
        probabilities=likely,
    )
    draw_worst(calibrated.network, judged, dataset.classes, experiment.config.output / "worst.png")


def _draw_scores(experiment: Experiment, calibrated: Calibrated) -> None:
    """Draw the curves of the positive class, where there is one."""
    decision, dataset = calibrated.decision, experiment.dataset
    if decision.positive is None:
        return
    positive = dataset.classes.index(decision.positive)
    likely = probabilities(calibrated.logits, decision.temperature)[:, positive].astype(np.float64)
    truth = (dataset.labels[experiment.validation] == positive).astype(np.int64)
    draw_scores(likely, truth, decision.threshold, experiment.config.output / "scores.png")


def _write_history(history: Sequence[Epoch], path: Path) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        names = [field.name for field in fields(Epoch)]
        writer.writerow(names)
        writer.writerows([getattr(row, name) for name in names] for row in history)
