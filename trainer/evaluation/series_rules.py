"""Rules that make one score of a series' slices, compared on whole series and on blocks of neighbours.

A rule that holds for whole heads may fail where a few slices are all there is, and the other way round: the
best run of three is ruined by the false alarms of long series, the middle slices by tumours at the ends. What
is compared must come from networks that saw nothing of these patients (`bt-train --leave-source-out`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from config.errors import DataError
from trainer.evaluation.metrics import ranking
from trainer.evaluation.series_decision import decided_out_of_fold, fit_series_decision
from trainer.evaluation.slices import (
    FEWEST_PATIENTS,
    Parts,
    Slices,
    patient_numbers,
    patient_weights,
    patients_by_kind,
)
from trainer.evaluation.tables import text_table
from trainer.images.arrays import Bools, Doubles, Ints
from trainer.model.series_rule import mean_of_loudest

_RUN = 3  # neighbouring slices
_MIDDLE = 0.6  # of the slices
_LIMIT = 1e-4  # probabilities are this far from 0 and 1 before their logits are averaged
_SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
# Ranks as well as a half does, and a tumour that shows on a fifth of the slices is not outvoted.
_USUAL_SHARE = 0.3
# What a single training is good to (trainer/EXPERIMENTS.md): another share must gain more.
_LEAST_GAIN = 0.02
FIGURES = ("roc_auc", "sensitivity", "specificity", "sensitivity_at_specificity_0.95")


def best_run(scores: Doubles) -> float:
    """Return the largest mean of three neighbours."""
    length = min(_RUN, len(scores))
    return float(np.convolve(scores, np.full(length, 1 / length), mode="valid").max())


def middle_mean_logit(scores: Doubles) -> float:
    """Return the mean of the logits of the middle 60 % of the slices."""
    cut = int(len(scores) * (1 - _MIDDLE) / 2)
    return float(_logits(scores[cut : len(scores) - cut]).mean())


def loudest(scores: Doubles, share: float) -> float:
    """Return the mean of the logits of the share of the slices that speaks loudest, as series are judged."""
    return mean_of_loudest(scores.tolist(), share)


def share_name(share: float) -> str:
    """Return how reports call the rule that averages the loudest share; of all, it is the mean logit."""
    return "mean logit" if share == 1 else f"loudest {share:.0%}"


RULES: Mapping[str, Callable[[Doubles], float]] = {
    "best run of three": best_run,
    "mean logit of the middle": middle_mean_logit,
    **{share_name(share): partial(loudest, share=share) for share in _SHARES},
}


def compare_rules(series: Sequence[Slices]) -> dict[str, Any]:
    """Return how each rule tells series and blocks with a tumour from those without, and the decision fitted.

    Thresholds, and the logistic regression of a few numbers, are fitted on series and blocks of other
    patients than those they are judged on. One threshold serves both, so how a rule ranks them together, each
    kind and each patient weighing the same, stands under "together". The rule of the decision averages the
    loudest 30 %, unless another share is better there by more than a training is good to. `decision` is None
    where there are too few patients for one. Raises DataError without series of both kinds of two patients
    each.
    """
    if min(patients_by_kind(series)) < FEWEST_PATIENTS:
        raise DataError(
            "there are no series with and without a tumour of two patients each",
            hint="leave out sources with tumours and without, and name their patients in the groups file",
        )
    parts = Parts.of(series)
    rules = {name: _judged(parts, partial(_by_rule, parts, rule)) for name, rule in RULES.items()}
    rules["regression"] = _judged(parts, partial(_by_regression, parts))
    share = _best_share(rules)
    decision = fit_series_decision(parts, share)
    with_tumour, without = patients_by_kind(series)
    return {
        "slices": _slices(series),
        "rules": rules,
        "chosen": share_name(share),
        "decision": None if decision is None else asdict(decision),
        "patients": {"with_tumour": with_tumour, "without": without},
    }


def rules_text(report: Mapping[str, Any]) -> str:
    """Return the comparison as a table."""
    kinds = {name: one for name, one in next(iter(report["rules"].values())).items() if "count" in one}
    columns = [f"{kind} {name}" for kind in kinds for name in ("AUC", "sens.", "spec.", "sens.*")]
    head = ("rule", *columns, "together AUC")
    rows = [("single slices", *figure_cells(report["slices"]), *[""] * (len(head) - 1 - len(FIGURES)))]
    for rule, found in report["rules"].items():
        name = f"{rule} (chosen)" if rule == report["chosen"] else rule
        cells = [cell for kind in kinds for cell in figure_cells(found[kind])]
        rows.append((name, *cells, f"{found['together']['roc_auc']:.3f}"))
    counts = ", ".join(
        f"{one['count']} {name} ({one['with_tumour']} with a tumour)" for name, one in kinds.items()
    )
    patients = report["patients"]
    return (
        f"{text_table(head, rows)}\n* at specificity 0.95; the others at a threshold of other patients.\n"
        f"{counts} of {sum(patients.values())} patients ({patients['with_tumour']} with a tumour), "
        f"{report['slices']['count']} slices"
    )


def figure_cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the figures of one rule on series, blocks or slices as tables show them."""
    return tuple(f"{figures[name]:.3f}" for name in FIGURES)


def _judged(parts: Parts, fitted: Callable[[Ints], Doubles]) -> dict[str, Any]:
    values, decided = decided_out_of_fold(fitted, parts.truth, parts.patients, parts.weights)
    kinds = {"series": ~parts.is_block, "blocks": parts.is_block}
    figures: dict[str, Any] = {
        kind: _figures(parts.truth[here], values[here], decided[here])
        for kind, here in kinds.items()
        if here.any()
    }
    together = ranking(values, parts.truth.astype(np.int64), parts.weights)
    return figures | {"together": {"roc_auc": together["roc_auc"]}}


def _slices(series: Sequence[Slices]) -> dict[str, Any]:
    scores = np.concatenate([one.scores for one in series])
    truth = np.concatenate([one.tumours for one in series])
    patients = patient_numbers([one.patient for one in series for _ in one.scores])
    weights = patient_weights(truth.astype(np.int64), patients)
    return _figures(truth, *decided_out_of_fold(lambda _: scores, truth, patients, weights))


def _figures(truth: Bools, values: Doubles, decided: Bools) -> dict[str, Any]:
    return {
        "count": len(truth),
        "with_tumour": int(truth.sum()),
        "sensitivity": round(float(decided[truth].mean()), 4),
        "specificity": round(float((~decided[~truth]).mean()), 4),
        **ranking(values, truth.astype(np.int64)),
    }


def _best_share(rules: Mapping[str, Mapping[str, Any]]) -> float:
    """Return the share that ranks series and blocks together best; the usual one if little better."""
    areas = {share: float(rules[share_name(share)]["together"]["roc_auc"]) for share in _SHARES}
    best = max(areas, key=lambda share: areas[share])
    return best if areas[best] > areas[_USUAL_SHARE] + _LEAST_GAIN else _USUAL_SHARE


def _by_rule(parts: Parts, score: Callable[[Doubles], float], _: Ints) -> Doubles:
    return np.array([score(one.scores) for one in parts.members])


def _by_regression(parts: Parts, learnt: Ints) -> Doubles:
    """Return the scores (n,) of a logistic regression of a few numbers, fitted on some of the parts."""
    numbers = np.array([_numbers(one.scores) for one in parts.members])
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    model.fit(numbers[learnt], parts.truth[learnt])
    told: Doubles = model.decision_function(numbers)
    return told


def _numbers(scores: Doubles) -> list[float]:
    return [
        float(_logits(scores).mean()),
        middle_mean_logit(scores),
        float(_logits(np.array([best_run(scores)]))[0]),
        float((scores > 0.5).mean()),
        float(np.log(len(scores))),
    ]


def _logits(scores: Doubles) -> Doubles:
    clipped = np.clip(scores, _LIMIT, 1 - _LIMIT)
    return np.log(clipped / (1 - clipped))
