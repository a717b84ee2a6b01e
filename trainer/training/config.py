"""Training configuration: what a run is asked to do, and who is told how it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from trainer.data.exclusions import NO_EXCLUSIONS, Exclusions
from trainer.images.arrays import Grey

# An epoch draws at least so many images: a set of two hundred is gone through several times, changed
# anew each time, or thirty epochs of it would be a hundred steps; from scratch it takes a thousand and more.
# What such a set needs is steps, not exact gradients: its batches are smaller.
_FEWEST_SAMPLES, _FEWEST_FROM_SCRATCH = 512, 1_600


_BATCH, _SMALL_BATCH = 64, 32


_SMALL_SET = 1_000  # training images


@dataclass(frozen=True, slots=True)
class Plan:
    """What a training run is to do; stored with its checkpoints, compared on resume."""

    epochs: int = 30
    batch: int = 0  # 0: 64, and 32 with fewer than 1,000 training images
    accumulate: int = 1  # so many batches make the gradient of a step
    learning_rate: float = 2e-3
    body_rate: float = 1.0  # the body's learning rate as a share of the head's; small for a trained body
    frozen: int = 0  # so many of the body's first parts stay as they are
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    patience: int = 8  # epochs without a better validation loss
    seed: int = 0
    samples_per_epoch: int = 0  # 0: as many as there are training images, but 512 (1,600) at least
    from_scratch: bool = True
    balance: str = "source-label"  # "none", "label" or "source-label"
    class_weights: str = "none"  # of the loss: "none", "balanced" or "A=2,B=1"; see class_weights.py
    lesions: float = 0.0  # share of the negative pictures drawn that get a lesion and become positive
    localisation: float = 1.0  # weight of the lesion map's loss, of a network that has one
    # Where masks or boxes of lesions are known, see trainer.data.lesions.lesion_mix:
    pasted: float = 0.4  # share of these lesions that are real ones, of other pictures
    healed: float = 0.3  # share of the positives that are healed, if they can be
    seams: float = 0.1  # share of the pictures with healthy tissue sewn in
    max_minutes: float = 0.0  # 0: no limit

    def of_an_epoch(self, images: int) -> tuple[int, int]:
        """Return the images of a step and how many steps an epoch over so many training images takes."""
        batch = (self.batch or (_BATCH if images >= _SMALL_SET else _SMALL_BATCH)) * self.accumulate
        fewest = _FEWEST_FROM_SCRATCH if self.from_scratch else _FEWEST_SAMPLES
        samples = self.samples_per_epoch or max(fewest, images)
        return min(batch, images), max(1, samples // batch)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of the history."""

    epoch: int
    seconds: float
    learning_rate: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_auc: float  # nan with more than two classes


@dataclass(frozen=True, slots=True)
class TrainingStart:
    """What is known when the first step is about to be made."""

    history: Sequence[Epoch]  # epochs of before, of a training that is gone on with
    epochs: int  # at most so many in all
    steps: int  # of an epoch
    images: int  # of a step
    # Returns so many training pictures (n, channels, S, S), uint8, as the network gets them: augmented.
    sample: Callable[[int], Grey]


class Listener(Protocol):
    """Who shows how training goes."""

    def started(self, start: TrainingStart) -> None:
        """Called once, before the first step."""

    def stepped(self, epoch: int, step: int, steps: int, loss: float, accuracy: float) -> None:
        """Called after every batch, with the means of this epoch so far."""

    def finished_epoch(self, epoch: Epoch, *, best: bool) -> None:
        """Called after every epoch."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What the command line asks for."""

    data: tuple[Path, ...]
    output: Path
    cache: Path
    plan: Plan
    merge: Mapping[str, str]
    architecture: str = "cnn"
    image_size: int = 256
    colour: bool = False  # RGB pictures of anything, instead of grey slices of heads
    groups: str = (
        "auto"  # near-duplicates and tags' patients; "none": a leaking random split; else a CSV file
    )
    validation_share: float = 0.15
    sensitivity: float = 0.95
    leave_out: tuple[str, ...] = ()  # sources or patient prefixes that take no part
    external: tuple[Path, ...] = ()  # roots that are judged on at the end and take no other part
    exclusions: Exclusions = NO_EXCLUSIONS
    device: str = "auto"
    resume: bool = False
    deterministic: bool = False
    init: Path | None = None
    pretrained: bool = False
    pretrained_file: Path | None = None  # with the weights of a network of timm; else they are downloaded
    lesions: float | None = None  # None: see plan_of
    synthetic_heads: Path | None = None  # a folder of label maps, of which heads and tomograms are made
    name: str = "model"
    meanings: Mapping[str, str] | None = None
    annotations: Path | None = None  # masks and boxes of lesions
    licences: Mapping[str, str] | None = None  # source -> licence, for the card
    command: str = ""
    validation: tuple[Path, ...] = ()  # roots that are judged on, in place of a part of the data
    options: Mapping[str, Any] = field(default_factory=dict)  # option -> value, for loggers

    @property
    def groups_file(self) -> Path | None:
        """The CSV file that tells patients and series, if there is one."""
        return None if self.groups in ("auto", "none") else Path(self.groups)


class Reporter(Listener):
    """Who shows how a run goes: decoding, then training."""

    def decoding(self, done: int, total: int) -> None:
        """Called as images are decoded."""

    def say(self, message: str) -> None:
        """Called with one line for people."""
