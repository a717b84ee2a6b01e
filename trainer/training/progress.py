"""Show a training at a terminal: one bar, one line per epoch, and the result."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from config.text import printable
from trainer.evaluation.tables import COLUMNS, figure_cell, text_table
from trainer.training.config import Epoch, Reporter, TrainingStart

_BAR = "{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt}{postfix}"


class Console(Reporter):
    """Draws on stderr; without a terminal it prints a line per epoch only.

    `clock` tells seconds.
    """

    def __init__(self, epochs: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.epochs = epochs
        self._bar: Any = None
        self._title = ""
        self._shown = 0
        self._terminal = sys.stderr.isatty()
        self._clock = clock
        self._pace = _Pace(clock)
        self._best: Epoch | None = None

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def say(self, message: str) -> None:
        """Print one line without tearing the bar."""
        tqdm.write(message, file=sys.stderr)

    def decoding(self, done: int, total: int) -> None:
        """Show how far reading has come."""
        self._show("reading images", done, total, "")

    def started(self, start: TrainingStart) -> None:
        """Begin to measure; tell of a training that is gone on with where it stands."""
        self._pace = _Pace(self._clock, start)
        self._best = min(start.history, key=lambda row: row.val_loss) if start.history else None
        if self._best is not None:
            self.say(
                f"{len(start.history)} of {start.epochs} epochs are done already, "
                f"best so far {_best_text(self._best)}"
            )

    def stepped(self, epoch: int, step: int, steps: int, loss: float, accuracy: float) -> None:
        """Show the loss and the accuracy of this epoch so far, how fast it goes and how long it takes."""
        self._pace.stepped(epoch, step)
        best = f", best {_best_text(self._best)}" if self._best is not None else ""
        self._show(
            f"epoch {epoch + 1}/{self.epochs}",
            step,
            steps,
            f"loss {loss:.4f}, accuracy {accuracy:.3f}, {self._pace.text()}{best}",
        )

    def finished_epoch(self, epoch: Epoch, *, best: bool) -> None:
        """Print the epoch's line."""
        self._close()
        self._pace.finished(epoch)
        self._best = epoch if best else self._best
        auc = "" if math.isnan(epoch.val_auc) else f" AUC {epoch.val_auc:.4f}"
        self.say(
            f"epoch {epoch.epoch}/{self.epochs}: "
            f"loss {epoch.train_loss:.4f} accuracy {epoch.train_accuracy:.3f}, "
            f"validation loss {epoch.val_loss:.4f} accuracy {epoch.val_accuracy:.3f}{auc}, "
            f"{epoch.seconds:.0f} s, {self._pace.text()}{', best so far' if best else ''}"
        )

    def _show(self, title: str, done: int, total: int, detail: str) -> None:
        if not self._terminal:
            return
        if self._bar is None or self._title != title:
            self._close()
            self._title, self._shown = title, 0
            self._bar = tqdm(
                total=total, desc=title, leave=False, dynamic_ncols=True, bar_format=_BAR, mininterval=0.2
            )
        self._bar.set_postfix_str(detail, refresh=False)
        self._bar.update(done - self._shown)
        self._shown = done
        if done >= total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Pace:
    """Images per second while training, and the time that is left at most: patience may end it before."""

    def __init__(self, clock: Callable[[], float], start: TrainingStart | None = None) -> None:
        self._clock, self._start = clock, start
        # Since when: of all steps, and of the epoch's, which begin when the one before has been judged.
        self._began = self._epoch_began = self._last = clock()
        self._steps = self._steps_of_epoch = 0
        self._left = self._judged = 0.0

    def stepped(self, epoch: int, step: int) -> None:
        if self._judged:
            self._epoch_began, self._judged = self._judged, 0.0
        self._last = self._clock()
        self._steps += 1
        self._steps_of_epoch = step
        if self._start is not None:
            left = self._start.epochs * self._start.steps - epoch * self._start.steps - step
            self._left = left * (self._last - self._began) / self._steps

    def finished(self, epoch: Epoch) -> None:
        """Count what judging took as well."""
        self._judged = self._clock()
        if self._start is not None and self._steps:
            left = (self._start.epochs - epoch.epoch) * self._start.steps
            self._left = left * (self._judged - self._began) / self._steps

    def text(self) -> str:
        seconds = self._last - self._epoch_began if self._steps else 0.0
        rate = self._start.images * self._steps_of_epoch / seconds if self._start and seconds > 0 else 0.0
        return f"{rate:.0f} images/s, {tqdm.format_interval(self._left)} left"


def _best_text(best: Epoch) -> str:
    return f"{best.val_loss:.4f} (epoch {best.epoch})"


def summary(report: dict[str, Any], output: Path) -> str:
    """Return the lines that end a training: what it reached, beside the baseline, and where it lies."""
    metrics = report["metrics"]
    lines = []
    for name, figure in metrics["validation"].items():
        if isinstance(figure, dict) and figure.get("value") is not None:
            interval = (
                f"  ({figure['low']:.3f} to {figure['high']:.3f})" if figure.get("low") is not None else ""
            )
            lines.append(f"{name:<16} {figure['value']:.3f}{interval}")
    nearest = metrics["nearest_neighbour"]["accuracy"]
    lines.append(f"{'nearest neighbour':<16} {nearest:.3f}  accuracy on the same split")
    if metrics["split"].startswith("random"):
        lines.append(f"The split is {metrics['split']}; these figures are too good.")
    lines.append(f"Weights, metrics, pictures and card are in {output}")
    return "\n".join(lines)


def rounds_text(report: dict[str, Any], output: Path) -> str:
    """Return the table that ends a run of folds or of sources left out."""
    rounds = report.get("by_fold") or report["left_out"]
    whole = {"all, out of fold": report["out_of_fold"]} if "out_of_fold" in report else {}
    half = {"the same at 0.5": whole["all, out of fold"]["at_one_half"]} if whole else {}
    rows = [
        (
            printable(name),
            str(figures["count"]),
            *(figure_cell(figures.get(key), interval=True) for key in COLUMNS),
            f"{figures['rejected']:.1%}" if "rejected" in figures else "-",
        )
        for name, figures in {**rounds, **whole, **half}.items()
    ]
    lines = [text_table(("", "images", *COLUMNS, "rejected"), rows)]
    if "nearest_neighbour" in report:
        lines.append(
            f"nearest neighbour: accuracy {report['nearest_neighbour']['accuracy']:.3f} on the same folds"
        )
    lines.append(f"Figures, predictions and pictures are in {printable(str(output))}")
    return "\n".join(lines)
