"""Callbacks of a training: loggers that are told of its start, of every epoch and of its end.

A callback that fails is left out from then on, with one warning: it never ends a training. An interrupt
waits until all have been told: TensorBoard's queue, cut off in the middle, may never let it close its file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from config.text import printable
from trainer.images.arrays import Doubles, Grey, Ints
from trainer.training.config import Epoch, Reporter, TrainingStart
from trainer.training.interrupts import interrupts_held


@dataclass(frozen=True, slots=True)
class RunStart:
    """A run that begins or is gone on with."""

    folder: Path  # the run's; its name is the run's
    options: Mapping[str, Any]  # option -> value, as run.toml has them
    history: Sequence[Epoch]  # epochs of before the resume, () for a new run
    best: int  # the best of them so far, 0 without any
    sample: Callable[[int], Grey]  # so many training pictures (n, channels, S, S), augmented


@dataclass(frozen=True, slots=True)
class RunEnd:
    """A run that has come to its end, with everything written into its folder."""

    folder: Path
    report: Mapping[str, Any]  # what metrics.json holds
    classes: Sequence[str]
    truth: Ints  # (n,), of the validation images, indices of classes
    probabilities: Doubles  # (n, classes), calibrated

    def figures(self) -> dict[str, float]:
        """Return the figures of the validation images by their names."""
        figures = self.report["metrics"]["validation"]
        values = {
            name: figure["value"]
            for name, figure in figures.items()
            if isinstance(figure, Mapping) and isinstance(figure.get("value"), float)
        }
        return values | {"best_epoch": float(self.report["metrics"]["best_epoch"])}


class Callback(Protocol):
    """Who is told how a run goes. What `on_start` is told of epochs done it may know already."""

    name: str

    def on_start(self, start: RunStart) -> None:
        """Called before the first step."""

    def on_epoch(self, epoch: Epoch, *, best: bool) -> None:
        """Called after every epoch, when its checkpoint is on the disk."""

    def on_end(self, end: RunEnd) -> None:
        """Called at the end; not after an interrupt."""

    def close(self) -> None:
        """Called last, however the run ended."""


class CallbackReporter(Reporter):
    """Passes on what a reporter is told, and tells callbacks."""

    def __init__(
        self, reporter: Reporter, callbacks: Sequence[Callback], folder: Path, options: Mapping[str, Any]
    ) -> None:
        self._reporter, self._callbacks = reporter, list(callbacks)
        self._folder, self._options = folder, options

    def decoding(self, done: int, total: int) -> None:
        """Pass it on."""
        self._reporter.decoding(done, total)

    def say(self, message: str) -> None:
        """Pass it on."""
        self._reporter.say(message)

    def started(self, start: TrainingStart) -> None:
        """Pass it on and tell the callbacks."""
        self._reporter.started(start)
        best = min(start.history, key=lambda row: row.val_loss).epoch if start.history else 0
        told = RunStart(self._folder, self._options, start.history, best, start.sample)
        self._each(lambda callback: callback.on_start(told))

    def stepped(self, epoch: int, step: int, steps: int, loss: float, accuracy: float) -> None:
        """Pass it on."""
        self._reporter.stepped(epoch, step, steps, loss, accuracy)

    def finished_epoch(self, epoch: Epoch, *, best: bool) -> None:
        """Pass it on and tell the callbacks."""
        self._reporter.finished_epoch(epoch, best=best)
        self._each(lambda callback: callback.on_epoch(epoch, best=best))

    def ended(self, end: RunEnd) -> None:
        """Tell the callbacks."""
        self._each(lambda callback: callback.on_end(end))

    def close(self) -> None:
        """Let the callbacks close what they opened."""
        self._each(lambda callback: callback.close())

    def _each(self, tell: Callable[[Callback], None]) -> None:
        with interrupts_held():
            for callback in list(self._callbacks):
                try:
                    tell(callback)
                except Exception as error:  # noqa: BLE001 - a logger's failure is no training's
                    self._callbacks.remove(callback)
                    self.say(
                        f"warning: the logger {callback.name} failed and is left out from here on "
                        f"({type(error).__name__}: {printable(str(error)[:200])})"
                    )
