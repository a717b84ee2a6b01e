"""Show a training at a terminal: one bar, one line per epoch, and the result."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from config.text import printable
from trainer.evaluation.tables import COLUMNS, figure_cell, text_table
from trainer.training.config import Epoch, Reporter


class Console(Reporter):
    """Draws on stderr; without a terminal it prints a line per epoch only."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._bar: Any = None
        self._title = ""
        self._shown = 0
        self._terminal = sys.stderr.isatty()

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

    def stepped(self, epoch: int, step: int, steps: int, loss: float, accuracy: float) -> None:
        """Show the step, the loss and the accuracy of this epoch so far."""
        self._show(
            f"epoch {epoch + 1}/{self.epochs}", step, steps, f"loss {loss:.4f} accuracy {accuracy:.3f}"
        )

    def finished_epoch(self, epoch: Epoch, *, best: bool) -> None:
        """Print the epoch's line."""
        self._close()
        self.say(
            f"epoch {epoch.epoch}/{self.epochs}: "
            f"loss {epoch.train_loss:.4f} accuracy {epoch.train_accuracy:.3f}, "
            f"validation loss {epoch.val_loss:.4f} accuracy {epoch.val_accuracy:.3f} "
            f"AUC {epoch.val_auc:.4f}, {epoch.seconds:.0f} s{', best so far' if best else ''}"
        )

    def _show(self, title: str, done: int, total: int, detail: str) -> None:
        if not self._terminal:
            return
        if self._bar is None or self._title != title:
            self._close()
            self._title, self._shown = title, 0
            self._bar = tqdm(total=total, desc=title, unit="", leave=False)
        self._bar.set_postfix_str(detail, refresh=False)
        self._bar.update(done - self._shown)
        self._shown = done
        if done >= total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


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
    if metrics["split"] != "by group":
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
