"""Models side by side on the same images: figures, and the differences with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from config.errors import DataError
from trainer.evaluation.bootstrap import group_weights, resampled_figures
from trainer.evaluation.outputs.judged_set import JudgedSet
from trainer.evaluation.tables import COLUMNS, figure_cell, text_table
from trainer.images.arrays import Doubles, Ints

_REPEATS = 400


def check_comparable(judged: Sequence[JudgedSet]) -> None:
    """Raise DataError unless the models have the same classes and judged the same images."""
    first = judged[0]
    for other in judged[1:]:
        if other.classes != first.classes or other.positive != first.positive:
            raise DataError(
                f"{other.name} knows other classes than {first.name}", hint="compare models of one question"
            )
        if other.dataset.hashes != first.dataset.hashes:
            raise DataError(f"{other.name} could not read the same images as {first.name}")


def paired_differences(judged: Sequence[JudgedSet], *, seed: int = 0) -> list[dict[str, Any]]:
    """Return of each model after the first {figure: {value, low, high}}: how much more it reaches.

    95 % intervals by bootstrap over groups, the same resamples for both models (Efron and Tibshirani 1993,
    "An Introduction to the Bootstrap"): images that both find hard cancel out. With more than two classes
    accuracy alone.
    """
    weights = group_weights(judged[0].groups, _REPEATS, seed)
    draws = [_draws(one, weights) for one in judged]
    wholes = [_draws(one, np.ones((1, len(one.labels)), dtype=np.int64)) for one in judged]
    return [
        {
            "model": one.name,
            **{
                name: _difference(whole[name], wholes[0][name], drawn[name], draws[0][name]) for name in drawn
            },
        }
        for one, drawn, whole in zip(judged[1:], draws[1:], wholes[1:], strict=True)
    ]


def _draws(judged: JudgedSet, weights: Ints) -> dict[str, Doubles]:
    if judged.positive is None:
        right = (judged.given == judged.labels).astype(np.float64)
        return {"accuracy": np.asarray(weights @ right / weights.sum(axis=1), dtype=np.float64)}
    truth = (judged.labels == judged.positive).astype(np.int64)
    threshold = judged.weights.spec.decision.threshold
    found = resampled_figures(judged.probabilities[:, judged.positive], truth, threshold, weights)
    return {name: found[name] for name in COLUMNS}


def _difference(whole: Doubles, first: Doubles, drawn: Doubles, others: Doubles) -> dict[str, float | None]:
    apart = drawn - others
    known = apart[~np.isnan(apart)]
    low, high = np.percentile(known, (2.5, 97.5)) if len(known) else (np.nan, np.nan)
    numbers = {"value": float(whole[0] - first[0]), "low": float(low), "high": float(high)}
    return {name: None if np.isnan(number) else round(number, 6) for name, number in numbers.items()}


def comparison_text(
    judged: Sequence[JudgedSet], reports: Sequence[Mapping[str, Any]], paired: Sequence[Mapping[str, Any]]
) -> str:
    """Return two tables: every model's figures, and the differences from the first."""
    rows = [
        (one.name, str(report["all"]["count"]),
         *(figure_cell(report["all"].get(name), interval=True) for name in COLUMNS),
         f"{report['all']['rejected']:.1%}")
        for one, report in zip(judged, reports, strict=True)
    ]  # fmt: skip
    table = text_table(("", "images", *COLUMNS, "rejected"), rows)
    names = [name for name in paired[0] if name != "model"]
    more = [(str(row["model"]), *(_signed(row[name]) for name in names)) for row in paired]
    return f"{table}\n\n" + text_table((f"more than {judged[0].name}", *names), more)


def _signed(figure: Mapping[str, float | None]) -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None or low is None or high is None:
        return "-"
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
