"""Comparison of runs: figures side by side, and paired intervals of their differences.

Two runs that judged the same images are compared on resamples that both share (paired bootstrap of whole
groups, Efron and Tibshirani 1993): what is hard for both moves neither difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from config.text import printable
from trainer.evaluation.bootstrap import TINY, group_weights, resampled_figures
from trainer.evaluation.tables import text_table
from trainer.images.arrays import Doubles, Ints
from trainer.runs.run_predictions import OUT_OF_FOLD, VALIDATION, RunPredictions, read_predictions_of
from trainer.runs.run_record import RunRecord

_REPEATS, _SEED = 2_000, 0
_FEWEST = 10  # images in common
_BINARY = ("accuracy", "sensitivity", "specificity", "roc_auc", "pr_auc", "log_loss")
_CLASSES = ("accuracy", "balanced_accuracy", "log_loss")
# Options that say nothing of how well a run does.
_SAYS_NOTHING = frozenset({"name", "log", "device", "meaning", "licence", "external"})


def compare_runs(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Return what differs in the runs' options, and their figures with differences to the first run's."""
    tables = {}
    for kind in (VALIDATION, OUT_OF_FOLD):
        told = [read_predictions_of(run, kind) for run in runs]
        if kind == VALIDATION or any(told):
            tables[kind] = _table([str(run.folder) for run in runs], told)
    return {"runs": [str(run.folder) for run in runs], "options": _differing(runs), "figures": tables}


def comparison_text(report: Mapping[str, Any]) -> str:
    """Return a comparison as tables for people."""
    names = [printable(name) for name in report["runs"]]
    lines = []
    if report["options"]:
        rows = [(name, *map(_option, values)) for name, values in report["options"].items()]
        lines.append(text_table(("options that differ", *names), rows))
    else:
        lines.append("no option differs")
    for kind, table in report["figures"].items():
        lines.append("")
        lines.append(_figures_text(kind, table))
    return "\n".join(lines)


def _differing(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    keys = dict.fromkeys(key for run in runs for key in run.options)
    values = {key: [run.options.get(key) for run in runs] for key in keys if key not in _SAYS_NOTHING}
    return {key: found for key, found in values.items() if any(one != found[0] for one in found)}


def _table(names: Sequence[str], told: Sequence[RunPredictions | None]) -> dict[str, Any]:
    own = {
        name: {"images": len(one.images), **_with_intervals(one)}
        for name, one in zip(names, told, strict=True)
        if one is not None
    }
    notes = [f"{name}: not finished, or of a version that stored no predictions" for name in names
             if name not in own]  # fmt: skip
    differences = {}
    first = told[0]
    for name, one in zip(names[1:], told[1:], strict=True):
        if first is None or one is None:
            continue
        common, note = _in_common(first, one)
        if note:
            notes.append(f"{names[0]} and {name}: {note}")
        if common:
            differences[name] = {"images": len(common), **_difference(first.of(common), one.of(common))}
    return {"runs": own, "differences": differences, "notes": notes}


def _in_common(first: RunPredictions, other: RunPredictions) -> tuple[list[str], str]:
    """Return the images that both judged, and what is to be said of that; none where they are too few."""
    if first.classes != other.classes:
        return [], "they have other classes, so no difference is given"
    there = set(other.images)
    common = sorted(image for image in set(first.images) if image in there)
    counts = f"judged on {len(first.images)} and {len(other.images)} images, {len(common)} of them the same"
    if len(common) == len(set(first.images)) == len(there):
        return common, ""
    if len(common) < _FEWEST:
        return [], f"{counts}: too few for a difference; the figures above are of other images each"
    return common, f"{counts}: the difference is on these alone"


def _difference(first: RunPredictions, other: RunPredictions) -> dict[str, Any]:
    """Return other minus first with paired intervals (95 %), both on the same images in the same order."""
    weights = group_weights(first.groups, _REPEATS, _SEED)
    once = np.ones((1, len(first.images)), dtype=np.int64)
    values = [_drawn(one, once) for one in (first, other)]
    draws = [_drawn(one, weights) for one in (first, other)]
    report = {}
    for name, before in draws[0].items():
        spread = draws[1][name] - before
        report[name] = _interval(float(values[1][name][0] - values[0][name][0]), spread)
    return report


def _with_intervals(one: RunPredictions) -> dict[str, Any]:
    draws = _drawn(one, group_weights(one.groups, _REPEATS, _SEED))
    values = _drawn(one, np.ones((1, len(one.images)), dtype=np.int64))
    return {name: _interval(float(values[name][0]), spread) for name, spread in draws.items()}


def _interval(value: float, spread: Doubles) -> dict[str, float | None]:
    spread = spread[~np.isnan(spread)]
    if np.isnan(value) or not len(spread):
        return {"value": None, "low": None, "high": None}
    low, high = np.percentile(spread, (2.5, 97.5))
    return {"value": round(value, 6), "low": round(float(low), 6), "high": round(float(high), 6)}


def _drawn(one: RunPredictions, weights: Ints) -> dict[str, Doubles]:
    """Return every figure (repeats,) of the images weighed by `weights` (repeats, n)."""
    if one.positive is not None:
        place = one.classes.index(one.positive)
        scores, truth = one.probabilities[:, place], (one.labels == place).astype(np.int64)
        figures = resampled_figures(scores, truth, one.threshold, weights)
        return {name: figures[name] for name in _BINARY}
    counts = weights.astype(np.float64)
    right = (one.probabilities.argmax(axis=1) == one.labels).astype(np.float64)
    surprise = -np.log(np.clip(one.probabilities[np.arange(len(right)), one.labels], TINY, 1))
    members = np.eye(len(one.classes))[one.labels]  # (n, classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = (counts @ (members * right[:, None])) / (counts @ members)
        values = (counts @ right, np.nanmean(recall, axis=1) * counts.sum(axis=1), counts @ surprise)
        return {name: value / counts.sum(axis=1) for name, value in zip(_CLASSES, values, strict=True)}


def _figures_text(kind: str, table: Mapping[str, Any]) -> str:
    rows, names = [], list(table["runs"])
    shown = [name for name in next(iter(table["runs"].values()), {}) if name != "images"]
    for name, figures in table["runs"].items():
        cells = (_cell(figures.get(key), signed=False) for key in shown)
        rows.append((printable(name), str(figures["images"]), *cells))
    for name, figures in table["differences"].items():
        cells = (_cell(figures.get(key), signed=True) for key in shown)
        rows.append((f"{printable(name)} less {printable(names[0])}", str(figures["images"]), *cells))
    lines = [text_table((kind, "images", *shown), rows)] if rows else [f"{kind}: nothing to compare"]
    if table["differences"]:
        lines.append("* the interval of the difference leaves out 0 (95 %, paired, by groups)")
    return "\n".join([*lines, *map(printable, table["notes"])])


def _cell(figure: Mapping[str, float | None] | None, *, signed: bool) -> str:
    if figure is None or figure["value"] is None or figure["low"] is None or figure["high"] is None:
        return "-"
    value, low, high = figure["value"], figure["low"], figure["high"]
    if not signed:
        return f"{value:.3f} ({low:.3f}-{high:.3f})"
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f}){'*' if low > 0 or high < 0 else ''}"


def _option(value: object) -> str:
    return "-" if value is None else printable(str(value))
