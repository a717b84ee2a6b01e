"""One training run, from folders to a weights file with everything that was measured beside it."""

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
import torch
from torch import nn

from config.errors import UsageError
from config.text import printable
from trainer.data.dataset import Dataset
from trainer.data.ood_negatives import other_pictures
from trainer.data.splits import random_split, split
from trainer.data.training_set import TrainingSet
from trainer.evaluation.baseline import nearest_neighbour
from trainer.evaluation.calibration import fit_decision, fit_shift
from trainer.evaluation.external import load_external
from trainer.evaluation.ood import OTHERS, fit_limit
from trainer.evaluation.report import by_source, score_quantiles, scores
from trainer.images.arrays import Bools, Floats, Ints
from trainer.model.prediction import distances, probabilities
from trainer.model.seen import Seen
from trainer.model.spec import Decision, ModelSpec, Preprocessing, Provenance
from trainer.model.weights import Tensors, read_weights, write_weights
from trainer.networks.bfloat16 import round_to_bfloat16
from trainer.networks.classifier import Classifier
from trainer.networks.cost import gflops, parameters
from trainer.networks.inference import pick_device, predict
from trainer.networks.loading import tensors_of
from trainer.training.checkpoint import Checkpoint
from trainer.training.config import Epoch, Reporter, RunConfig
from trainer.training.loop import Trained, fit
from trainer.training.prepare import (
    groups_of,
    load_images,
    network_of,
    pictures_of,
    plan_of,
    refuse_too_few,
    setting_of,
)

WEIGHTS_NAME = "model.safetensors"
CHECKPOINT_NAME = "checkpoint.safetensors"
METRICS_NAME = "metrics.json"
SPLIT_NAME = "validation.txt"  # the sha256 of each image judged on, one per line


def run_training(
    request: RunConfig, reporter: Reporter, measured: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Train, judge and write everything into `request.output`; return what metrics.json holds.

    `measured` is what several trainings of the same kind have shown (see `cross_validation`), for the card.
    """
    device = pick_device(request.device)
    dataset = load_images(request, reporter)
    groups = groups_of(dataset, request.groups)
    outside = _left_out(dataset, request.leave_out)
    inside = np.flatnonzero(~outside)
    train, validation = _split(dataset, groups, inside, request)
    refuse_too_few(dataset, train, validation)
    reporter.say(_described(dataset, groups, train, validation))
    network = network_of(request, dataset, train)
    data = pictures_of(dataset, train, validation)
    plan = plan_of(request, dataset.classes)
    if plan.lesions:
        reporter.say(
            f"lesions are drawn into {plan.lesions:.0%} of the tumour-free images (--lesions 0: none)"
        )
    request.output.mkdir(parents=True, exist_ok=True)
    (request.output / SPLIT_NAME).write_text("".join(f"{dataset.hashes[place]}\n" for place in validation))
    checkpoint = Checkpoint(request.output / CHECKPOINT_NAME)
    setting = setting_of(request, dataset, train)
    trained = fit(
        network, data, plan, device, reporter,
        checkpoint=checkpoint, resume=request.resume, setting=setting,
    )  # fmt: skip
    beside = _of_first_training(request.init) | dict(measured or {})
    if request.external:
        beside["external"] = load_external(request.external, request.merge, request.cache, dataset, reporter)
    return _conclude(request, dataset, groups, data, outside, network, trained, device, beside)


def _of_first_training(init: Path | None) -> dict[str, Any]:
    """Return what folds and sources left out showed of the training that this one goes on from."""
    if init is None:
        return {}
    try:
        metrics = json.loads((init.parent / METRICS_NAME).read_text(encoding="utf-8"))["metrics"]
        found = {name: metrics[name] for name in ("out_of_fold", "left_out_rounds") if name in metrics}
        return {name: told | {"of_first_training": True} for name, told in found.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # weights without their run's figures


def _left_out(dataset: Dataset, names: Sequence[str]) -> Bools:
    """Mark the images of sources, or with file names, that begin with one of `names`."""
    marked = np.array(
        [
            any(image.source == name or image.path.name.startswith(name) for name in names)
            for image in dataset.files
        ],
        dtype=bool,
    )
    if names and not marked.any():
        raise UsageError(
            f"--leave-out {printable(', '.join(names))} matches no source and no file name",
            hint=f"sources are {', '.join(map(printable, dataset.source_names))}",
        )
    return marked


def _split(dataset: Dataset, groups: Ints, inside: Ints, request: RunConfig) -> tuple[Ints, Ints]:
    """Return the places trained on and judged on; `--init` keeps the split of the run it starts from.

    Else images that the first run learnt would be judged on by the second.
    """
    labels, sources = dataset.labels[inside], dataset.sources[inside]
    if request.init is not None and (before := request.init.parent / SPLIT_NAME).exists():
        held_out = set(before.read_text().split())
        judged = np.array([dataset.hashes[place] in held_out for place in inside.tolist()], dtype=bool)
        return inside[~judged], inside[judged]
    if request.groups == "none":
        train, validation = random_split(labels, request.validation_share, request.plan.seed)
    else:
        train, validation = split(
            labels, groups[inside], sources, request.validation_share, request.plan.seed
        )
    return inside[train], inside[validation]


def _conclude(
    request: RunConfig,
    dataset: Dataset,
    groups: Ints,
    data: TrainingSet,
    outside: Bools,
    network: Classifier,
    trained: Trained,
    device: torch.device,
    beside: dict[str, Any],
) -> dict[str, Any]:
    """Calibrate, measure, and write weights, metrics, history, pictures and card."""
    how = Preprocessing(image_size=request.image_size)
    round_to_bfloat16(network, request.image_size)
    logits, features = predict(network, data.pictures[data.validation], device)
    labels = data.labels[data.validation]
    shift = fit_shift(logits, labels)
    network.shift_logits(shift)
    logits = logits + shift
    decision = fit_decision(logits, labels, dataset.classes, request.sensitivity)
    limit, tensors = fit_limit(network, data, device, how, request.plan.seed)
    unseen_others = predict(
        network, other_pictures(data.pictures[data.validation], how, OTHERS, request.plan.seed + 1), device
    )[1]
    left_out = np.flatnonzero(outside)
    report: dict[str, Any] = {
        "validation": scores(logits, labels, groups[data.validation], decision, dataset.classes)
        | {"score_quantiles": score_quantiles(logits, decision, dataset.classes)},
        "validation_by_source": by_source(logits, data.validation, dataset, groups, decision),
        "nearest_neighbour": nearest_neighbour(data.pictures, data.labels, data.train, data.validation),
        "rejected": {
            "validation": float((distances(features, tensors) > limit.max_distance).mean()),
            "drawn_pictures_of_other_kinds": float(
                (distances(unseen_others, tensors) > limit.max_distance).mean()
            ),
        },
        "best_epoch": trained.best_epoch,
        "stopped": trained.stopped,
        "split": "random: near-duplicates leak" if request.groups == "none" else "by group",
    }
    if len(left_out):
        said, found = predict(network, data.pictures[left_out], device)
        report["left_out"] = {
            "names": list(request.leave_out),
            "accepted": float((distances(found, tensors) <= limit.max_distance).mean()),
            **scores(said, data.labels[left_out], groups[left_out], decision, dataset.classes),
        }
    external = beside.pop("external", None)
    if external is not None:
        report["external"] = external.figures(network, tensors, limit, decision, device)
    report |= beside
    spec = ModelSpec(
        name=request.name,
        version=datetime.now(UTC).strftime("%Y.%m.%d"),
        architecture=request.architecture,
        classes=dataset.classes,
        meanings=dict(request.meanings or {}),
        preprocessing=how,
        decision=decision,
        out_of_distribution=limit,
        provenance=_provenance(request, dataset, data, report),
    )
    whole = _write(
        request, spec, network, tensors, report, trained, logits, labels, _seen(request, dataset, data)
    )
    _draw_worst(request, dataset, data, network, decision, logits)
    return whole


def _draw_worst(
    request: RunConfig,
    dataset: Dataset,
    data: TrainingSet,
    network: Classifier,
    decision: Decision,
    logits: Floats,
) -> None:
    from trainer.evaluation.worst_errors import draw_worst

    shares = probabilities(logits, decision.temperature).astype(np.float64)
    said = shares.argmax(axis=1)
    if decision.positive is not None:
        positive = dataset.classes.index(decision.positive)
        said = np.where(shares[:, positive] >= decision.threshold, positive, 1 - positive)
    draw_worst(
        network,
        data.pictures[data.validation],
        data.labels[data.validation],
        shares,
        said,
        [dataset.files[place].name for place in data.validation.tolist()],
        dataset.classes,
        request.output / "worst.png",
    )


def _write(
    request: RunConfig,
    spec: ModelSpec,
    network: nn.Module,
    tensors: Tensors,
    report: dict[str, Any],
    trained: Trained,
    logits: Floats,
    labels: Ints,
    seen: Seen,
) -> dict[str, Any]:
    from trainer.evaluation.model_card import write_card
    from trainer.evaluation.plots import draw_confusion, draw_curves, draw_scores

    place = request.output
    digest = write_weights(place / WEIGHTS_NAME, spec, tensors_of(network) | tensors, seen)
    whole = {
        "weights": {"file": WEIGHTS_NAME, "sha256": digest},
        "parameters": parameters(network),
        "gflop_per_image": gflops(network.cpu(), request.image_size),
        **json.loads(spec.to_json()),
        "plan": asdict(plan_of(request, spec.classes)),
    }
    whole["metrics"] = report
    (place / METRICS_NAME).write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    _write_history(trained.history, place / "history.csv")
    draw_curves(trained.history, trained.best_epoch, place / "curves.png")
    draw_confusion(report["validation"]["confusion"], spec.classes, place / "confusion.png")
    if spec.decision.positive is not None:
        positive = spec.classes.index(spec.decision.positive)
        shares = probabilities(logits, spec.decision.temperature)[:, positive].astype(np.float64)
        draw_scores(
            shares, (labels == positive).astype(np.int64), spec.decision.threshold, place / "scores.png"
        )
    write_card(whole, place / "CARD.md")
    return whole


def _seen(request: RunConfig, dataset: Dataset, data: TrainingSet) -> Seen:
    """Return which images the model knows: its own, and those of the model it started from."""
    trained, fitted = (
        [dataset.hashes[place] for place in part.tolist()] for part in (data.train, data.validation)
    )
    before = read_weights(request.init).seen if request.init is not None else Seen()
    return before | Seen.of(trained=trained, fitted=fitted)


def _provenance(
    request: RunConfig, dataset: Dataset, data: TrainingSet, report: dict[str, Any]
) -> Provenance:
    licences = request.licences or {}
    sources: list[dict[str, Any]] = []
    for number, name in enumerate(dataset.source_names):
        here = dataset.sources == number
        counts = {
            label: int((dataset.labels[here] == place).sum()) for place, label in enumerate(dataset.classes)
        }
        used = int((dataset.sources[data.train] == number).sum())
        told = {"source": name, "images": counts, "trained_on": used}
        sources.append(told | ({"licence": licences[name]} if name in licences else {}))
    # A run that started from another's weights is made again only by both commands.
    before = read_weights(request.init).spec.provenance.command if request.init is not None else ""
    return Provenance(
        command=f"{before}\n{request.command}".strip(),
        seed=request.plan.seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        software={"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "numpy", "pillow")},
        data=tuple(sources),
        metrics={"validation": report["validation"]},
    )


def _write_history(history: Sequence[Epoch], path: Path) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        names = [field.name for field in fields(Epoch)]
        writer.writerow(names)
        writer.writerows([getattr(row, name) for name in names] for row in history)


def _described(
    dataset: Dataset,
    groups: Ints,
    train: Ints,
    validation: Ints,
) -> str:
    learnt, judged = (np.bincount(dataset.labels[part]) for part in (train, validation))
    parts = [f"{label} {learnt[place]}+{judged[place]}" for place, label in enumerate(dataset.classes)]
    return (
        f"{len(dataset)} images in {len(np.unique(groups))} groups; "
        f"training+validation per class: {', '.join(map(printable, parts))}"
    )
