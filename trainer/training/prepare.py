"""Prepare a training: load and group images, divide them, build the network."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.errors import DataError, UsageError
from config.text import printable
from trainer.data.dataset import Dataset, find_images, load_dataset
from trainer.data.groups import group_ids, near_duplicates, read_patients
from trainer.data.training_set import TrainingSet
from trainer.evaluation.calibration import POSITIVE_NAMES, positive_class
from trainer.images.arrays import Ints
from trainer.model.spec import Preprocessing
from trainer.model.weights import read_weights
from trainer.networks.classifier import Classifier
from trainer.networks.lite0 import Lite0, centre
from trainer.networks.loading import copy_fitting, load_pretrained
from trainer.networks.registry import build
from trainer.training.config import Plan, Reporter, RunConfig

# Measured on sources left out: a third and a half do equally well, none far worse (trainer/EXPERIMENTS.md).
_LESIONS = 0.5
# So many training images tell what a channel's usual value is.
_USUAL_IMAGES = 32


def load_images(request: RunConfig, reporter: Reporter) -> Dataset:
    """Decode what is to be trained on; what cannot be read is left out and told."""
    if request.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(1)
    how = Preprocessing(image_size=request.image_size)
    files = find_images(request.data, request.merge)
    dataset = load_dataset(files, how, request.cache, progress=reporter.decoding)
    for image, reason in dataset.unreadable:
        reporter.say(f"left out {printable(str(image.path))}: {reason}")
    return dataset


def groups_of(dataset: Dataset, wanted: str) -> Ints:
    """Return the group (n,) of each image: "auto", "none", or the patients of a CSV file as well."""
    if wanted == "none":
        return np.arange(len(dataset), dtype=np.int64)
    patients = None
    if wanted != "auto":
        patients = read_patients(Path(wanted), [image.name for image in dataset.files])
    return group_ids(dataset.hashes, near_duplicates(dataset.pictures), patients)


def refuse_too_few(dataset: Dataset, train: Ints, validation: Ints) -> None:
    """Raise DataError if a class cannot be learnt or judged with these places."""
    for place, label in enumerate(dataset.classes):
        learnt, judged = (int((dataset.labels[part] == place).sum()) for part in (train, validation))
        if learnt < 2 or judged < 1:
            raise DataError(
                f"too few images of {printable(repr(label))}: {learnt} to train on, {judged} to judge on",
                hint="give more images, or a larger --validation-share; images of one group stay together",
            )


def setting_of(request: RunConfig, dataset: Dataset, train: Ints) -> dict[str, Any]:
    """Return what must be the same for a checkpoint to be gone on from, apart from the plan."""
    digest = hashlib.sha256()
    for place in train.tolist():
        digest.update(f"{dataset.hashes[place]} {dataset.labels[place]} {dataset.sources[place]}\n".encode())
    return {
        "architecture": request.architecture,
        "image_size": request.image_size,
        "classes": list(dataset.classes),
        "training_images": digest.hexdigest(),
        "deterministic": request.deterministic,
    }


def plan_of(request: RunConfig, classes: tuple[str, ...]) -> Plan:
    """Return the plan, with lesions drawn into half of the tumour-free images unless told otherwise.

    Not for a network that starts from scratch: on few images it then learns neither the drawn ones nor the
    real ones in any reasonable time (trainer/EXPERIMENTS.md). And only where one of two classes has a name
    that says tumour: what else a class may mean, no drawing knows.
    Raises UsageError if lesions are asked for with other than two classes.
    """
    positive = positive_class(classes)
    if request.lesions and positive is None:
        raise UsageError("--lesions needs two classes, with and without tumour", hint="give --lesions 0")
    started = request.pretrained or request.init is not None
    usual = _LESIONS if started and positive is not None and positive.lower() in POSITIVE_NAMES else 0.0
    return replace(request.plan, lesions=usual if request.lesions is None else request.lesions)


def pictures_of(dataset: Dataset, train: Ints, validation: Ints) -> TrainingSet:
    """Return what a training works on."""
    positive = positive_class(dataset.classes)
    place = 1 if positive is None else dataset.classes.index(positive)
    return TrainingSet(
        dataset.pictures, dataset.labels, dataset.sources, train, validation, 1 - place, place
    )  # fmt: skip


def network_of(request: RunConfig, dataset: Dataset, train: Ints) -> Classifier:
    """Return the network a training starts from: random, another model's, or ImageNet weights.

    `train` are the places of the images it may learn from: some of them tell what is usual (lite0.centre).
    """
    how = Preprocessing(image_size=request.image_size)
    torch.manual_seed(request.plan.seed)
    network = build(request.architecture, len(dataset.classes), None, how)
    if request.init is not None:
        start = read_weights(request.init)
        if start.spec.architecture != request.architecture:
            raise UsageError(
                f"{printable(str(request.init))} holds a {start.spec.architecture}, "
                f"not a {request.architecture}",
                hint=f"give --arch {start.spec.architecture}",
            )
        copy_fitting(start.tensors, network)
    elif request.pretrained:
        load_pretrained(request.architecture, network)
    if isinstance(network.body, Lite0) and (request.init is not None or request.pretrained):
        some = train[np.linspace(0, len(train) - 1, min(len(train), _USUAL_IMAGES)).astype(np.int64)]
        pictures = torch.from_numpy(np.array(dataset.pictures[some]))[:, None]
        centre(network.body, network.normalised(pictures))
    network.freeze(request.plan.frozen)
    return network
