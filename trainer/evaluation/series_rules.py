"""Rules that make one score of a series' slices, compared on whole series and on blocks of neighbours.

A rule that holds for whole heads may fail where a few slices are all there is, and the other way round: the
best run of three is ruined by the false alarms of long series, the middle slices by tumours at the ends. What
is compared must come from networks that saw nothing of these patients (`bt-train --leave-source-out`).
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from config.errors import DataError, UsageError
from config.text import printable
from trainer.data.groups import read_patients
from trainer.evaluation.metrics import ranking
from trainer.evaluation.tables import text_table
from trainer.images.arrays import Bools, Doubles, Ints

_RUN = 3  # neighbouring slices
_MIDDLE = 0.6  # of the slices
_BLOCK = 8  # neighbouring slices
_BLOCK_TUMOURS = 3  # so many of a block's slices show a tumour, or none does
_FEWEST_SLICES = 3
_FEWEST_PATIENTS = 2
_FOLDS = 5
_LIMIT = 1e-4  # probabilities are this far from 0 and 1 before their logits are averaged
_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")


@dataclass(frozen=True, slots=True)
class Slices:
    """Slices of one series, or of a part of it, in their order."""

    patient: str
    scores: Doubles  # (n,), the probability of the positive class
    tumours: Bools  # (n,), whether a slice shows a tumour

    def part(self, places: slice) -> Slices:
        """Return some neighbours of them."""
        return Slices(self.patient, self.scores[places], self.tumours[places])

    @property
    def has_tumour(self) -> bool:
        """Whether any of the slices shows one."""
        return bool(self.tumours.any())


def best_run(scores: Doubles) -> float:
    """Return the largest mean of three neighbours."""
    length = min(_RUN, len(scores))
    return float(np.convolve(scores, np.full(length, 1 / length), mode="valid").max())


def mean_logit(scores: Doubles) -> float:
    """Return the mean of all slices' logits."""
    return float(_logits(scores).mean())


def middle_mean_logit(scores: Doubles) -> float:
    """Return the mean of the logits of the middle 60 % of the slices."""
    cut = int(len(scores) * (1 - _MIDDLE) / 2)
    return float(_logits(scores[cut : len(scores) - cut]).mean())


def top_half(scores: Doubles) -> float:
    """Return the mean of the logits of the half of the slices that speaks loudest."""
    return float(np.sort(_logits(scores))[len(scores) // 2 :].mean())


RULES: Mapping[str, Callable[[Doubles], float]] = {
    "best run of three": best_run,
    "mean logit": mean_logit,
    "mean logit of the middle": middle_mean_logit,
    "mean logit of the top half": top_half,
}


def compare_rules(predictions: Path, groups: Path, positive: str) -> dict[str, Any]:
    """Return how each rule tells series and blocks with a tumour from those without.

    `predictions` is the predictions.csv of sources left out, `groups` a groups file that names patients. A
    block are eight neighbouring slices of a patient with a tumour, with at least three of it or none. The
    logistic regression of a few numbers is fitted on series and blocks of other patients than those it is
    judged on. Raises UsageError for files that are none of these, DataError if they hold no series of both
    kinds.
    """
    series = read_series(predictions, groups, positive)
    parts = {"series": series, "blocks": [block for one in series for block in _blocks(one)]}
    for name, some in parts.items():
        if min(_patients(some).values()) < _FEWEST_PATIENTS:
            raise DataError(
                f"{printable(str(predictions))} has no {name} with and without a tumour of two patients each",
                hint="leave out sources with tumours and without, and name their patients in the groups file",
            )
    slices = [one.part(slice(place, place + 1)) for one in series for place in range(len(one.scores))]
    scores = {
        rule: {name: _by_rule(some, score) for name, some in parts.items()} for rule, score in RULES.items()
    }
    scores["regression"] = _by_regression(parts)
    return {
        "slices": _figures(slices, np.array([one.scores[0] for one in slices])),
        "rules": {
            rule: {name: _figures(parts[name], some) for name, some in found.items()}
            for rule, found in scores.items()
        },
    }


def rules_text(report: Mapping[str, Any]) -> str:
    """Return the comparison as a table."""
    rows = [("single slices", report["slices"], None)]
    rows += [(rule, found["series"], found["blocks"]) for rule, found in report["rules"].items()]
    head = ("rule", "series AUC", "sensitivity*", "blocks AUC", "sensitivity*")
    table = text_table(head, [(rule, *_cells(series), *_cells(blocks)) for rule, series, blocks in rows])
    some = next(iter(report["rules"].values()))
    counts = ", ".join(
        f"{one['count']} {name} ({one['with_tumour']} with a tumour)" for name, one in some.items()
    )
    return f"{table}\n* at specificity 0.95; {counts}, {report['slices']['count']} slices"


def _cells(figures: Mapping[str, Any] | None) -> tuple[str, str]:
    if figures is None:
        return "", ""
    return f"{figures['roc_auc']:.3f}", f"{figures['sensitivity_at_specificity_0.95']:.3f}"


def read_series(predictions: Path, groups: Path, positive: str) -> list[Slices]:
    """Return the series of at least three slices among predictions of sources left out.

    A series are images of one patient whose names differ in their last number only. Slices that were rejected
    have no vote, unless all were.
    """
    column = f"p_{positive}"
    try:
        with predictions.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            reader = csv.DictReader(stream)
            if not {"file", "label", "inside", column} <= set(reader.fieldnames or ()):
                raise UsageError(
                    f"{printable(str(predictions))} lacks the columns file, label, inside, {column}",
                    hint="give the predictions.csv of bt-train --leave-source-out",
                )
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {printable(str(predictions))}: {error}") from error
    found: dict[tuple[str, str], list[tuple[int, bool, float, bool]]] = defaultdict(list)
    patients = read_patients(groups, [row["file"] for row in rows])
    for row, patient in zip(rows, patients, strict=True):
        number = _LAST_NUMBER.search(Path(row["file"]).stem)
        if patient and number is not None:
            name = _LAST_NUMBER.sub("#", Path(row["file"]).stem)
            found[patient, name].append(
                (int(number.group()), row["inside"] == "1", float(row[column]), row["label"] == positive)
            )
    return [_series(patient, some) for (patient, _), some in found.items() if len(some) >= _FEWEST_SLICES]


def _series(patient: str, rows: list[tuple[int, bool, float, bool]]) -> Slices:
    rows = sorted(rows)
    if any(inside for _, inside, _, _ in rows):
        rows = [row for row in rows if row[1]]
    return Slices(patient, np.array([row[2] for row in rows]), np.array([row[3] for row in rows]))


def _blocks(series: Slices) -> list[Slices]:
    """Return the blocks of a series with a tumour, overlapping by half, but for those that show little."""
    if not series.has_tumour:
        return []
    starts = range(0, len(series.scores) - _BLOCK + 1, _BLOCK // 2)
    blocks = [series.part(slice(start, start + _BLOCK)) for start in starts]
    return [one for one in blocks if not 0 < one.tumours.sum() < _BLOCK_TUMOURS]


def _by_rule(parts: Sequence[Slices], score: Callable[[Doubles], float]) -> Doubles:
    return np.array([score(one.scores) for one in parts])


def _by_regression(parts: Mapping[str, Sequence[Slices]]) -> dict[str, Doubles]:
    """Return the scores of a logistic regression of a few numbers, by patient out of fold."""
    everything = [one for some in parts.values() for one in some]
    numbers = np.array([_numbers(one.scores) for one in everything])
    truth = np.array([one.has_tumour for one in everything])
    patients = [one.patient for one in everything]
    told = np.empty(len(everything))
    count = min(_FOLDS, *_patients(everything).values())
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    for learnt, judged in folds.split(numbers, truth, patients):
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        model.fit(numbers[learnt], truth[learnt])
        told[judged] = model.decision_function(numbers[judged])
    ends = np.cumsum([len(some) for some in parts.values()])[:-1]
    return dict(zip(parts, np.split(told, ends), strict=True))


def _patients(parts: Sequence[Slices]) -> dict[bool, int]:
    """Return how many patients have parts with a tumour, and without."""
    return {kind: len({one.patient for one in parts if one.has_tumour == kind}) for kind in (True, False)}


def _numbers(scores: Doubles) -> list[float]:
    return [
        mean_logit(scores),
        middle_mean_logit(scores),
        float(_logits(np.array([best_run(scores)]))[0]),
        float((scores > 0.5).mean()),
        float(np.log(len(scores))),
    ]


def _figures(parts: Sequence[Slices], scores: Doubles) -> dict[str, Any]:
    truth: Ints = np.array([one.has_tumour for one in parts], dtype=np.int64)
    return {"count": len(truth), "with_tumour": int(truth.sum()), **ranking(scores, truth)}


def _logits(scores: Doubles) -> Doubles:
    clipped = np.clip(scores, _LIMIT, 1 - _LIMIT)
    return np.log(clipped / (1 - clipped))
