"""One training run, from folders to a weights file with everything that was measured beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from config.errors import UsageError
from config.text import printable
from trainer.data.dataset import Collection
from trainer.data.ood_negatives import other_pictures
from trainer.data.splits import random_split, split
from trainer.data.synthetic_heads import synthetic_tomograms
from trainer.evaluation.baseline import nearest_neighbour
from trainer.evaluation.calibrated import Calibrated, calibrate_network
from trainer.evaluation.external import load_external
from trainer.evaluation.ood import OTHERS
from trainer.evaluation.report import (
    by_source,
    distance_quantiles,
    pooled,
    score_quantiles,
    scores,
    series_figures,
)
from trainer.images.arrays import Bools, Grey, Ints
from trainer.model.prediction import probabilities
from trainer.model.seen import seen_warning
from trainer.model.series_rule import SeriesRule
from trainer.model.spec import Decision, SeriesDecision
from trainer.model.weights import read_weights
from trainer.networks.inference import predict
from trainer.training.artifacts import write_run
from trainer.training.callbacks import Callback, CallbackReporter, RunEnd
from trainer.training.checkpoint import Checkpoint
from trainer.training.config import Reporter, RunConfig
from trainer.training.loop import Trained, fit
from trainer.training.prepare import Experiment, images_below, images_named, open_experiment
from trainer.training.run_folder import CHECKPOINT_NAME, METRICS_NAME, SPLIT_NAME

_TOMOGRAMS = 200  # that the limit is judged on


def run_training(
    config: RunConfig,
    reporter: Reporter,
    measured: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train, judge and write everything into `config.output`; return what metrics.json holds.

    `measured` is what several trainings of the same kind have shown (see `cross_validation`), for the card.
    `callbacks` are told how it goes.
    """
    telling = CallbackReporter(reporter, callbacks, config.output, config.options)
    try:
        return _run(config, telling, dict(measured or {}))
    finally:
        telling.close()


def divided_experiment(config: RunConfig, reporter: Reporter) -> tuple[Experiment, Bools]:
    """Return the experiment with its split, and the images (n,) that are left out to be judged on at last."""
    whole = open_experiment(config, reporter)
    outside = _left_out(whole)
    related = np.isin(whole.groups, np.unique(whole.groups[outside])) & ~outside
    if related.any():
        reporter.say(f"{int(related.sum())} twins of what is left out take no part")
    experiment = whole.divided(*_split(whole, np.flatnonzero(~outside & ~related), reporter))
    reporter.say(_described(experiment))
    return experiment, outside


def _run(config: RunConfig, reporter: CallbackReporter, measured: dict[str, Any]) -> dict[str, Any]:
    experiment, outside = divided_experiment(config, reporter)
    network, plan = experiment.new_network(), experiment.plan
    if plan.lesions:
        reporter.say(f"lesions are put into {plan.lesions:.0%} of the tumour-free images (--lesions 0: none)")
    config.output.mkdir(parents=True, exist_ok=True)
    held_out = (experiment.dataset.hashes[index] for index in experiment.validation)
    (config.output / SPLIT_NAME).write_text("".join(f"{digest}\n" for digest in held_out))
    checkpoint = Checkpoint(config.output / CHECKPOINT_NAME, experiment.setting(), resume=config.resume)
    data = experiment.training_set
    trained = fit(network, data, plan, experiment.device, reporter, checkpoint)
    calibrated = calibrate_network(network, data, experiment.calibration, experiment.device)
    measured = _of_first_training(config.init) | measured
    if "pooled" in (rounds := measured.get("left_out_rounds", {})):
        calibrated = replace(calibrated, decision=Decision(**rounds["pooled"]["decision"]))
    calibrated = replace(calibrated, series=_series_decision(measured))
    report = _measured(experiment, calibrated, trained)
    if outside.any():
        report["left_out"] = _on_left_out(experiment, calibrated, np.flatnonzero(outside))
    if config.external:
        collection = Collection(
            config.external, config.merge, config.cache, config.exclusions.where_named(), config.groups_file
        )
        external = load_external(collection, experiment.dataset, experiment.preprocessing, reporter)
        report["external"] = external.figures(calibrated, experiment.device)
    whole = write_run(experiment, calibrated, trained, report | measured)
    reporter.ended(_end(experiment, calibrated, whole))
    return whole


def _end(experiment: Experiment, calibrated: Calibrated, report: Mapping[str, Any]) -> RunEnd:
    dataset = experiment.dataset
    likely = probabilities(calibrated.logits, calibrated.decision.temperature).astype(np.float64)
    truth = dataset.labels[experiment.validation]
    return RunEnd(experiment.config.output, report, dataset.classes, truth, likely)


def _series_decision(measured: Mapping[str, Any]) -> SeriesDecision | None:
    """Return what was fitted on series of patients that rounds had not seen: sources left out, else folds."""
    for name in ("left_out_rounds", "out_of_fold"):
        decision = measured.get(name, {}).get("series", {}).get("decision")
        if decision is not None:
            return SeriesDecision(**decision)
    return None


def _of_first_training(init: Path | None) -> dict[str, Any]:
    """Return what folds and sources left out showed of the training that this one goes on from."""
    if init is None:
        return {}
    try:
        metrics = json.loads((init.parent / METRICS_NAME).read_text(encoding="utf-8"))["metrics"]
        kept = {name: metrics[name] for name in ("out_of_fold", "left_out_rounds") if name in metrics}
        return {name: figures | {"of_first_training": True} for name, figures in kept.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # weights without their run's figures


def _left_out(experiment: Experiment) -> Bools:
    """Mark the images that `--leave-out` names; raise UsageError if there are none of them."""
    dataset, names = experiment.dataset, experiment.config.leave_out
    marked = images_named(dataset, names)
    if names and not marked.any():
        raise UsageError(
            f"--leave-out {printable(', '.join(names))} matches no source and no file name",
            hint=f"sources are {', '.join(map(printable, dataset.source_names))}",
        )
    return marked


def _split(experiment: Experiment, inside: Ints, reporter: Reporter) -> tuple[Ints, Ints]:
    """Return the indices trained on and judged on; `--init` keeps the split of the run it starts from.

    Else images that the first run learnt would be judged on by the second. `--val` comes before both.
    """
    config, dataset = experiment.config, experiment.dataset
    if config.validation:
        return _by_folder(experiment, inside, reporter)
    labels, sources = dataset.labels[inside], dataset.sources[inside]
    if config.init is not None and (before := config.init.parent / SPLIT_NAME).exists():
        held_out = set(before.read_text().split())
        judged = np.array([dataset.hashes[index] in held_out for index in inside.tolist()], dtype=bool)
        return inside[~judged], inside[judged]
    if config.groups == "none":
        train, validation = random_split(labels, config.validation_share, config.plan.seed)
    else:
        groups = experiment.groups[inside]
        train, validation = split(labels, groups, sources, config.validation_share, config.plan.seed)
    return inside[train], inside[validation]


def _by_folder(experiment: Experiment, inside: Ints, reporter: Reporter) -> tuple[Ints, Ints]:
    """Return the split that `--val` names; what has a twin or its patient there is not learnt from."""
    dataset, groups = experiment.dataset, experiment.groups
    judged = images_below(dataset, experiment.config.validation)[inside]
    related = np.isin(groups[inside], np.unique(groups[inside][judged])) & ~judged
    if related.any():
        reporter.say(f"{int(related.sum())} twins of the validation images take no part in the training")
    if experiment.config.init is not None:
        seen = read_weights(experiment.config.init).seen
        if warning := seen_warning(seen, (), [dataset.hashes[n] for n in inside[judged].tolist()], ()):
            reporter.say(f"warning: of --val, {warning}")
    return inside[~judged & ~related], inside[judged]


def _measured(experiment: Experiment, calibrated: Calibrated, trained: Trained) -> dict[str, Any]:
    """Return the figures of the held-out images and what stands beside them in metrics.json."""
    dataset, groups, data = experiment.dataset, experiment.groups, experiment.training_set
    validation, decision, logits = experiment.validation, calibrated.decision, calibrated.logits
    rule = SeriesRule(dataset.classes, decision, calibrated.series)
    memberships = [dataset.memberships[index] for index in validation.tolist()]
    inside = calibrated.accepted(calibrated.features)
    return {
        "validation": scores(logits, data.labels[validation], groups[validation], decision, dataset.classes)
        | {"score_quantiles": score_quantiles(logits, decision, dataset.classes)}
        | {"distance_quantiles": distance_quantiles(calibrated.distances(calibrated.features))}
        | {"rejected": calibrated.rejected(calibrated.features)},
        "validation_by_source": by_source(logits, validation, dataset, groups, decision),
        "validation_series": series_figures(memberships, logits, data.labels[validation], inside, rule),
        "nearest_neighbour": nearest_neighbour(data.pictures, data.labels, data.train, validation),
        "rejected": {
            "validation": calibrated.rejected(calibrated.features),
            **{name: _rejected(experiment, calibrated, some) for name, some in _others(experiment).items()},
        },
        "best_epoch": trained.best_epoch,
        "stopped": trained.stopped,
        "split": experiment.split_name,
    }


def _others(experiment: Experiment) -> dict[str, Grey]:
    """Return pictures (n, S, S) of other kinds, made with another seed than the limit was fitted with."""
    config, preprocessing = experiment.config, experiment.preprocessing
    heads, seed = experiment.dataset.pictures[experiment.validation], config.plan.seed + 1
    others = {"drawn_pictures_of_other_kinds": other_pictures(heads, preprocessing, OTHERS, seed)}
    if config.synthetic_heads is not None:
        tomograms = synthetic_tomograms(config.synthetic_heads, preprocessing, _TOMOGRAMS, seed)
        others["tomograms_of_label_maps"] = tomograms
    return others


def _rejected(experiment: Experiment, calibrated: Calibrated, pictures: Grey) -> float:
    return calibrated.rejected(predict(calibrated.network, pictures, experiment.device)[1])


def _on_left_out(experiment: Experiment, calibrated: Calibrated, left_out: Ints) -> dict[str, Any]:
    dataset, groups = experiment.dataset, experiment.groups
    logits, features = predict(calibrated.network, dataset.pictures[left_out], experiment.device)
    decision, accepted = calibrated.decision, calibrated.accepted(features)

    def figures(here: Bools) -> dict[str, Any]:
        places = left_out[here]
        return {
            "accepted": float(accepted[here].mean()),
            **scores(logits[here], dataset.labels[places], groups[places], decision, dataset.classes),
        }

    names = list(experiment.config.leave_out)
    marked = {name: images_named(dataset, [name])[left_out] for name in names}
    return {
        "names": names,
        "pooled": pooled(logits, left_out, dataset, decision),
        **figures(np.ones(len(left_out), dtype=bool)),
        "by_name": {name: figures(here) for name, here in marked.items() if here.any()},
    }


def _described(experiment: Experiment) -> str:
    dataset = experiment.dataset
    learnt, judged = (np.bincount(dataset.labels[part]) for part in (experiment.train, experiment.validation))
    parts = [f"{label} {learnt[index]}+{judged[index]}" for index, label in enumerate(dataset.classes)]
    return (
        f"{len(dataset)} images in {len(np.unique(experiment.groups))} groups; "
        f"training+validation per class: {', '.join(map(printable, parts))}"
    )
