"""ROC, precision-recall and reliability of one model or several in one picture, AUC in the legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from config.text import printable
from trainer.evaluation.outputs.judged_set import JudgedSet
from trainer.images.arrays import Doubles, Ints

# Okabe and Ito's colours, which people with colour-blindness can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LINES = ("-", "--", "-.", ":")
_GREY = "#888888"
_MOST_CLASSES = 12  # lines that can be told apart


@dataclass(frozen=True, slots=True)
class _Curve:
    name: str
    scores: Doubles  # (n,)
    truth: Ints  # (n,), 0 or 1


def draw_models(judged: Sequence[JudgedSet], path: Path) -> None:
    """Draw the curves of models of the same classes on the same images; axes begin at 0.

    With two classes, of the one that is looked for. With more, one model has a curve for each class against
    the others (at most twelve, the commonest), several have one each, all classes pooled (micro average).
    Reliability is of the positive class, with more classes of the class given.
    """
    curves = _curves(judged)
    figure = Figure(figsize=(14.4, 4.9), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.set(xlim=(0, 1.01), ylim=(0, 1.02), aspect="equal")
    for number, curve in enumerate(curves):
        style = _style(number)
        _draw_curve(axes[0], axes[1], curve, style)
    for number, one in enumerate(judged):
        style = _style(number)
        _draw_reliability(axes[2], one, style)
    axes[0].plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1)
    axes[2].plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1)
    axes[0].set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity")
    axes[1].set(title="Precision and recall", xlabel="recall (sensitivity)", ylabel="precision")
    axes[2].set(title="Reliability", xlabel="probability said", ylabel="share that was right")
    places = ("lower right", "lower left", "upper left")
    for axis, place in zip(axes, places, strict=True):
        axis.legend(frameon=False, loc=place, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _curves(judged: Sequence[JudgedSet]) -> list[_Curve]:
    first = judged[0]
    if first.positive is not None:
        place = first.positive
        return [
            _Curve(_short(one), one.probabilities[:, place], (one.labels == place).astype(np.int64))
            for one in judged
        ]
    if len(judged) > 1:
        eye = np.eye(len(first.classes), dtype=np.int64)
        return [
            _Curve(f"{_short(one)}, classes pooled", one.probabilities.ravel(), eye[one.labels].ravel())
            for one in judged
        ]
    likely = first.probabilities
    counts = np.bincount(first.labels, minlength=len(first.classes))
    shown = sorted(np.argsort(-counts, kind="stable")[:_MOST_CLASSES].tolist())
    return [
        _Curve(printable(first.classes[at]), likely[:, at], (first.labels == at).astype(np.int64))
        for at in shown
    ]


def _draw_curve(roc: Axes, recall: Axes, curve: _Curve, style: dict[str, Any]) -> None:
    if not 0 < curve.truth.sum() < len(curve.truth):
        return  # one class only: there is no curve
    false_rate, true_rate, _ = roc_curve(curve.truth, curve.scores)
    area = roc_auc_score(curve.truth, curve.scores)
    roc.plot(false_rate, true_rate, label=f"{curve.name}: AUC {area:.3f}", **style)
    precision, sensitivity, _ = precision_recall_curve(curve.truth, curve.scores)
    area = average_precision_score(curve.truth, curve.scores)
    recall.plot(sensitivity, precision, drawstyle="steps-post", label=f"{curve.name}: AP {area:.3f}", **style)


def _draw_reliability(axes: Axes, judged: JudgedSet, style: dict[str, Any]) -> None:
    likely, positive = judged.probabilities, judged.positive
    if positive is not None:
        scores, right = likely[:, positive], judged.labels == positive
    else:
        given = judged.given
        scores, right = likely[np.arange(len(given)), given], given == judged.labels
    was, said = calibration_curve(right.astype(np.int64), np.clip(scores, 0, 1), n_bins=10)
    axes.plot(said, was, marker="o", markersize=4, label=_short(judged), **style)


def _style(number: int) -> dict[str, Any]:
    """Return colour and dashes of the curve of this number."""
    kinds = len(_COLOURS)
    return {"color": _COLOURS[number % kinds], "linestyle": _LINES[number // kinds % len(_LINES)]}


def _short(judged: JudgedSet) -> str:
    spec = judged.weights.spec
    return f"{printable(spec.name)[:24]} {judged.weights.sha256[:8]}"
