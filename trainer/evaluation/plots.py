"""Pictures of a training: how it went, what it confuses, how far its probabilities can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from trainer.images.arrays import Doubles, Ints

# Okabe and Ito's colours, which people with colour-blindness can tell apart.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#888888"
_OKABE_ITO = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", ":")


def draw_curves(history: Sequence[Any], best_epoch: int, path: Path) -> None:
    """Draw loss and accuracy over the epochs (rows as `trainer.training.loop.Epoch`)."""
    figure, (left, right) = _figure(2)
    epochs = [row.epoch for row in history]
    for axes, name, title in ((left, "loss", "Loss"), (right, "accuracy", "Accuracy")):
        axes.plot(
            epochs,
            [getattr(row, f"train_{name}") for row in history],
            color=GREY,
            label="training, augmented",
        )
        axes.plot(epochs, [getattr(row, f"val_{name}") for row in history], color=BLUE, label="validation")
        axes.axvline(best_epoch, color=ORANGE, linestyle=":", label=f"kept: epoch {best_epoch}")
        axes.set(title=title, xlabel="epoch")
        axes.legend(frameon=False)
    _save(figure, path)


def draw_several(
    panels: Mapping[str, Sequence[tuple[str, Sequence[int], Sequence[float]]]],
    best: Sequence[int],
    path: Path,
) -> None:
    """Draw the curves (name, epochs, values) of several runs, a panel each title, `best` epochs marked."""
    figure, all_axes = _figure(len(panels))
    for axes, (title, curves) in zip(all_axes, panels.items(), strict=True):
        for number, ((name, epochs, values), kept) in enumerate(zip(curves, best, strict=True)):
            colour = _OKABE_ITO[number % len(_OKABE_ITO)]
            line = _LINES[number // len(_OKABE_ITO) % len(_LINES)]
            axes.plot(epochs, values, line, color=colour, label=name, marker="." if len(epochs) < 3 else "")
            here = [place for place, epoch in enumerate(epochs) if epoch == kept]
            axes.plot([kept for _ in here], [values[place] for place in here], "o", color=colour)
        axes.set(title=title, xlabel="epoch (dot: the one kept)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        values = [value for _, _, some in curves for value in some]
        if title.endswith("loss"):
            axes.set_ylim(bottom=0)
        else:  # from chance, or less, to all right
            axes.set_ylim(min(0.5, *values) - 0.02, 1.02)
    all_axes[0].legend(frameon=False, fontsize="small")
    _save(figure, path)


def draw_learning_rates(
    rates: Sequence[float], losses: Sequence[float], smooth: Sequence[float], chosen: float, path: Path
) -> None:
    """Draw the loss of each step of a learning-rate range test over its rate, and the rate chosen."""
    figure, (axes,) = _figure(1)
    axes.plot(rates, losses, color=GREY, alpha=0.5, label="loss of the step")
    axes.plot(rates, smooth, color=BLUE, label="smoothed")
    axes.axvline(chosen, color=ORANGE, linestyle=":", label=f"chosen: {chosen:g}")
    # What diverges at the end would press everything else flat.
    axes.set(title="Learning-rate range test", xlabel="learning rate", ylabel="loss", xscale="log")
    axes.set_ylim(0, max(1.5 * smooth[0], 1.1 * max(smooth[: max(1, len(smooth) // 2)])))
    axes.legend(frameon=False)
    _save(figure, path)


def draw_confusion(table: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix: counts, and the share of each true class."""
    figure, (axes,) = _figure(1)
    counts = np.asarray(table)
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(classes)):
        for column in range(len(classes)):
            axes.text(
                column, row, f"{counts[row, column]}\n{share[row, column]:.1%}", ha="center", va="center",
                color="white" if share[row, column] > 0.5 else "black",
            )  # fmt: skip
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(title="Confusion", xlabel="predicted", ylabel="true")
    axes.spines[:].set_visible(False)
    _save(figure, path)


def draw_scores(scores: Doubles, truth: Ints, threshold: float, path: Path) -> None:
    """Draw ROC, precision-recall and reliability of the positive class's probabilities."""
    figure, (roc, recall, reliability) = _figure(3)
    _draw_roc(roc, scores, truth, threshold)
    if truth.any():
        precision, sensitivity, _ = precision_recall_curve(truth, scores)
        recall.plot(sensitivity, precision, color=BLUE)
    recall.set(
        title="Precision and recall", xlabel="sensitivity (recall)", ylabel="precision", ylim=(0, 1.02)
    )
    _draw_reliability(reliability, scores, truth)
    _save(figure, path)


def _draw_roc(axes: Axes, scores: Doubles, truth: Ints, threshold: float) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    if 0 < truth.sum() < len(truth):
        false_rate, true_rate, _ = roc_curve(truth, scores)
        axes.plot(false_rate, true_rate, color=BLUE)
        above = scores >= threshold
        axes.plot(
            above[truth == 0].mean(), above[truth == 1].mean(), "o", color=ORANGE,
            label=f"threshold {threshold:.2f}",
        )  # fmt: skip
        axes.legend(frameon=False, loc="lower right")
    axes.set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity", ylim=(0, 1.02))


def _draw_reliability(axes: Axes, scores: Doubles, truth: Ints) -> None:
    counts, _ = np.histogram(scores, bins=10, range=(0, 1))
    was, stated = calibration_curve(truth, scores, n_bins=10)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.bar(
        (np.arange(10) + 0.5) / 10,
        counts / counts.max(),
        width=0.09,
        color=GREY,
        alpha=0.25,
        label="how many",
    )
    axes.plot(stated, was, "o-", color=BLUE)
    axes.set(title="Reliability", xlabel="probability said", ylabel="share that was positive", ylim=(0, 1.02))
    axes.legend(frameon=False, loc="upper left")


def _figure(columns: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.6 * columns, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
