"""Experiment: a run's configuration, images, groups, split and device, and what follows from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.errors import DataError, UsageError
from config.text import printable
from trainer.data.annotations import Annotations, load_annotations, without_annotations
from trainer.data.colour.colour_check import plainly_coloured
from trainer.data.dataset import Collection, Dataset
from trainer.data.groups import group_ids, near_duplicates
from trainer.data.synthetic_heads import synthetic_heads, synthetic_tomograms
from trainer.data.training_set import TrainingSet
from trainer.evaluation.calibrated import CalibrationConfig
from trainer.evaluation.calibration import POSITIVE_NAMES, positive_class
from trainer.evaluation.ood import LimitExamples
from trainer.images.arrays import Bools, Grey, Ints, planes
from trainer.model.spec import Preprocessing
from trainer.model.weights import read_weights
from trainer.networks.classifier import Classifier
from trainer.networks.inference import pick_device
from trainer.networks.loading import copy_fitting, load_pretrained
from trainer.networks.registry import build, registered
from trainer.training.class_weights import class_weights
from trainer.training.config import Plan, Reporter, RunConfig

# Measured on sources left out: a third and a half do equally well, none far worse (trainer/EXPERIMENTS.md).
_LESIONS = 0.5
# Made of label maps for the rejection limit, if there are any: fifteen seconds.
HEADS, TOMOGRAMS = 400, 500
# So many training images tell what a channel's usual value is.
_USUAL_IMAGES = 32


@dataclass(frozen=True, slots=True)
class Experiment:
    """A run's configuration, its images with their groups and split, and the device that computes."""

    config: RunConfig
    dataset: Dataset
    annotations: Annotations
    groups: Ints  # (n,)
    train: Ints  # indices of the images that are learnt from
    validation: Ints  # indices of those that decide and calibrate
    device: torch.device
    examples: LimitExamples  # for the rejection limit

    def divided(self, train: Ints, validation: Ints) -> Experiment:
        """Return the experiment with another split; raise DataError if a class cannot be learnt or judged."""
        _refuse_too_few(self.dataset, train, validation)
        return replace(self, train=train, validation=validation)

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become the network's input."""
        return preprocessing_of(self.config)

    @property
    def calibration(self) -> CalibrationConfig:
        """What the calibration of a trained network aims at."""
        config = self.config
        return CalibrationConfig(
            self.dataset.classes,
            self.preprocessing,
            config.sensitivity,
            config.plan.seed,
            self.examples,
        )

    @property
    def split_name(self) -> str:
        """How reports name the split."""
        if self.config.validation:
            return "by folder"
        return "random: near-duplicates leak" if self.config.groups == "none" else "by group"

    @property
    def training_set(self) -> TrainingSet:
        """What the training loop works on."""
        dataset, index = self.dataset, _positive(self.dataset.classes)
        return TrainingSet(
            dataset.pictures, dataset.labels, dataset.sources, self.train, self.validation,
            1 - index, index, self.annotations,
            class_weights(self.config.plan.class_weights, dataset.classes, dataset.labels[self.train]),
        )  # fmt: skip

    @property
    def plan(self) -> Plan:
        """The plan, with lesions drawn into half of the tumour-free images unless told otherwise.

        Not for a network that starts from scratch: on few images it then learns neither the drawn ones nor
        the real ones in any reasonable time (trainer/EXPERIMENTS.md). And only where one of two classes has
        a name that says tumour: what else a class may mean, no drawing knows.
        Raises UsageError if lesions are asked for with other than two classes.
        """
        config, positive = self.config, positive_class(self.dataset.classes)
        if config.lesions and positive is None:
            raise UsageError("--lesions needs two classes, with and without tumour", hint="give --lesions 0")
        pretrained = config.pretrained or config.init is not None
        is_tumour = positive is not None and positive.lower() in POSITIVE_NAMES
        usual = _LESIONS if pretrained and is_tumour and not config.colour else 0.0
        return replace(config.plan, lesions=usual if config.lesions is None else config.lesions)

    def setting(self) -> dict[str, Any]:
        """Return what must be the same for a checkpoint to be gone on from, apart from the plan."""
        dataset, digest = self.dataset, hashlib.sha256()
        for index in self.train.tolist():
            digest.update(
                f"{dataset.hashes[index]} {dataset.labels[index]} {dataset.sources[index]}\n".encode()
            )
        return {
            "architecture": self.config.architecture,
            "image_size": self.config.image_size,
            "classes": list(dataset.classes),
            "training_images": digest.hexdigest(),
            "annotations": self._annotations_digest(),
            "deterministic": self.config.deterministic,
        } | ({"colour": True} if self.config.colour else {})

    def _annotations_digest(self) -> str:
        annotations = self.annotations
        digest = hashlib.sha256(annotations.known[self.train].tobytes())
        digest.update(annotations.maps[self.train].tobytes())
        return digest.hexdigest()

    def new_network(self) -> Classifier:
        """Return the network a training starts from: random, another model's, or ImageNet weights.

        Some of the images learnt from tell what is usual (Classifier.centre).
        """
        config, dataset = self.config, self.dataset
        torch.manual_seed(config.plan.seed)
        network = build(config.architecture, len(dataset.classes), None, self.preprocessing)
        if config.init is not None:
            _start_from(config.init, config, network)
        elif config.pretrained:
            load_pretrained(config.architecture, network, config.pretrained_file)
        if config.init is not None or config.pretrained:
            count = min(len(self.train), _USUAL_IMAGES)
            some = self.train[np.linspace(0, len(self.train) - 1, count).astype(np.int64)]
            network.centre(torch.from_numpy(planes(np.array(dataset.pictures[some]))))
        if config.init is None:
            network.look_for(_positive(dataset.classes))
        network.freeze(config.plan.frozen)
        return network


def open_experiment(config: RunConfig, reporter: Reporter) -> Experiment:
    """Decode and group what a run is about, not yet split; what cannot be read is left out and told."""
    device = pick_device(config.device)
    if config.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(1)
    _check_colour(config)
    roots = (*config.data, *config.validation)
    # With external collections the list may be about theirs alone.
    exclusions = config.exclusions.where_named() if config.external else config.exclusions
    collection = Collection(roots, config.merge, config.cache, exclusions, config.groups_file)
    preprocessing = preprocessing_of(config)
    dataset = collection.load(preprocessing, reporter.decoding)
    for image, reason in dataset.unreadable:
        reporter.say(f"left out {printable(str(image.path))}: {reason}")
    if not config.colour and plainly_coloured([image.path for image in dataset.files]):
        reporter.say("these images are in colour and are learnt from in grey: --colour learns from colours")
    if dataset.excluded_text:
        reporter.say(dataset.excluded_text)
    if patients := len({name for name in dataset.patients if name}):
        reporter.say(f"{patients} patients are known, of {sum(map(bool, dataset.patients))} images")
    strangers = collection.load_strangers(dataset, preprocessing, reporter.decoding)
    nothing = np.empty(0, dtype=np.int64)
    groups = _groups_of(dataset, config.groups)
    if config.synthetic_heads is not None:
        reporter.say("making heads of label maps, for the rejection limit")
    examples = _limit_examples(config, preprocessing, strangers)
    annotations = _annotations(config, dataset, reporter)
    return Experiment(config, dataset, annotations, groups, nothing, nothing, device, examples)


def preprocessing_of(config: RunConfig) -> Preprocessing:
    """Return how images become the network's input."""
    if not config.colour:
        return Preprocessing(image_size=config.image_size)
    entry = registered(config.architecture)
    return Preprocessing.of_colour(config.image_size, entry.mean, entry.std)


def _check_colour(config: RunConfig) -> None:
    """Refuse what is only known of grey heads."""
    if not config.colour:
        return
    given = {
        "--lesions": bool(config.lesions),
        "--annotations": config.annotations is not None,
        "--synthetic-heads": config.synthetic_heads is not None,
    }
    if named := [name for name, there in given.items() if there]:
        raise UsageError(f"{named[0]} is for grey slices of heads", hint="leave it out, or --colour")


def _annotations(config: RunConfig, dataset: Dataset, reporter: Reporter) -> Annotations:
    """Return what is known of where lesions are."""
    preprocessing, positive = preprocessing_of(config), _positive(dataset.classes)
    if len(dataset.classes) != 2:
        if config.annotations is not None:
            raise UsageError("--annotations needs two classes, with and without tumour")
        return without_annotations(dataset, preprocessing, None)
    if config.annotations is None:
        return without_annotations(dataset, preprocessing, positive)
    found = load_annotations(config.annotations, dataset, preprocessing, positive, reporter.decoding)
    ill = dataset.labels == positive
    reporter.say(
        f"it is known where the lesions are in {int(found.known[ill].sum())} of {int(ill.sum())} images "
        f"of {printable(repr(dataset.classes[positive]))}"
    )
    return found


def _positive(classes: tuple[str, ...]) -> int:
    """Return the place of the class that is looked for; with more than two classes, of the second."""
    name = positive_class(classes)
    return 1 if name is None else classes.index(name)


def _limit_examples(config: RunConfig, preprocessing: Preprocessing, strangers: Grey) -> LimitExamples:
    """Return what the rejection limit is fitted with beside the images.

    `strangers` (k, S, S) are examples of what is to be rejected; heads made of label maps, if there are any,
    serve both sides.
    """
    real = (strangers,) if len(strangers) else ()
    if (folder := config.synthetic_heads) is None:
        return LimitExamples(strangers=real)
    seed = config.plan.seed
    return LimitExamples(
        heads=(synthetic_heads(folder, preprocessing, HEADS, seed),),
        strangers=(*real, synthetic_tomograms(folder, preprocessing, TOMOGRAMS, seed)),
    )


def images_below(dataset: Dataset, roots: Sequence[Path]) -> Bools:
    """Mark the images (n,) that lie in one of the folders `roots`."""
    return np.array(
        [any(image.path.is_relative_to(root) for root in roots) for image in dataset.files], dtype=bool
    )


def images_named(dataset: Dataset, names: Sequence[str]) -> Bools:
    """Mark the images (n,) of sources, or with file names, that begin with one of `names`."""
    return np.array(
        [
            any(image.source == name or image.path.name.startswith(name) for name in names)
            for image in dataset.files
        ],
        dtype=bool,
    )


def _groups_of(dataset: Dataset, wanted: str) -> Ints:
    """Return the group (n,) of each image: of near-duplicates and patients, or with "none" its own."""
    if wanted == "none":
        return np.arange(len(dataset), dtype=np.int64)
    return group_ids(dataset.hashes, near_duplicates(dataset.pictures), dataset.patients)


def _refuse_too_few(dataset: Dataset, train: Ints, validation: Ints) -> None:
    for index, label in enumerate(dataset.classes):
        learnt, judged = (int((dataset.labels[part] == index).sum()) for part in (train, validation))
        if learnt < 2 or judged < 1:
            raise DataError(
                f"too few images of {printable(repr(label))}: {learnt} to train on, {judged} to judge on",
                hint="give more images, or a larger --validation-share; images of one group stay together",
            )


def _start_from(weights_path: Path, config: RunConfig, network: Classifier) -> None:
    start = read_weights(weights_path)
    architecture = config.architecture
    if start.spec.architecture != architecture:
        raise UsageError(
            f"{printable(str(weights_path))} holds a {start.spec.architecture}, not a {architecture}",
            hint=f"give --arch {start.spec.architecture}",
        )
    if start.spec.preprocessing.is_colour != config.colour:
        kind, hint = ("grey", "do not give --colour") if config.colour else ("colour", "give --colour")
        raise UsageError(f"{printable(str(weights_path))} is a model of {kind} pictures", hint=hint)
    copy_fitting(start.tensors, network)
