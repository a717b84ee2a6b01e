"""The model card: written from the measured JSON, never by hand (Mitchell et al. 2019, "Model Cards")."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.model.layers import localisation

_FIGURES = (
    "accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "roc_auc",
    "pr_auc",
    "brier",
    "log_loss",
    "ece",
)


def write_card(report: dict[str, Any], path: Path) -> None:
    """Write the card of a run from what its metrics.json holds."""
    path.write_text(card_text(report), encoding="utf-8")


def card_text(report: dict[str, Any]) -> str:
    """Return the card as Markdown."""
    metrics = report["metrics"]
    parts = [
        f"# Model card: {report['name']} {report['version']}",
        "**Not a medical device. For research only, never for diagnosis or treatment.** The images it was "
        "trained on come from a few public collections; on images from other scanners and hospitals expect "
        "it to do worse than the figures below.",
        _facts(report),
        "## Data",
        _data(report),
        *_excluded_files(report),
        "## Licence",
        _licence(report),
        "## How well it does on groups it has not seen",
        f"Split {metrics['split']}. {_fitted(metrics)} Intervals are 95 %, by bootstrap over groups.",
        _scores_table(metrics["validation"]),
        "A nearest neighbour on 32x32 thumbnails reaches accuracy "
        f"{metrics['nearest_neighbour']['accuracy']:.3f} on the same split.",
        "### By source",
        _source_table(metrics["validation_by_source"]),
    ]
    if series := metrics.get("validation_series"):
        parts += [
            "### By series",
            f"The same images as series of {series['patients']} patients, each judged as bt-daemon "
            "judges it; intervals by bootstrap over patients.",
            _scores_table(series, "series"),
        ]
    parts += [*_rejection(metrics), *_elsewhere(metrics)]
    parts += [
        "## Intended use",
        _USE,
        "## Limits",
        _limits(report),
        "## How it was made",
        f"```\n{_commands(report)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _fitted(metrics: dict[str, Any]) -> str:
    if "pooled" in metrics.get("left_out_rounds", {}):
        return "Threshold and temperature come from predictions of sources left out, below."
    return (
        "Threshold and temperature were fitted on the same validation images, so these figures lean to the "
        "good side."
    )


def _rejection(metrics: dict[str, Any]) -> list[str]:
    if "rejected" not in metrics:
        return []
    turned_down = metrics["rejected"]
    return [
        "## What it does not judge",
        f"The distance limit rejects {turned_down['validation']:.1%} of the validation images and "
        f"{turned_down['drawn_pictures_of_other_kinds']:.1%} of drawn pictures of other kinds (noise, "
        "shapes, text, stripes, shuffled tiles) that it was not fitted on."
        + (
            f" Of computed tomograms made of label maps, other cuts than it was fitted on: {tomograms:.1%}."
            if (tomograms := turned_down.get("tomograms_of_label_maps")) is not None
            else ""
        ),
    ]


def _elsewhere(metrics: dict[str, Any]) -> list[str]:
    """Return the parts about images and sources that a network was not trained with."""
    parts: list[str] = []
    if "left_out" in metrics:
        left = metrics["left_out"]
        parts += [
            f"## On sources left out of training: {', '.join(left['names'])}",
            f"{left['accepted']:.1%} of them are within the distance limit.",
            _scores_table(left),
        ]
    if "out_of_fold" in metrics:
        folds = metrics["out_of_fold"]
        parts += [
            "## Out of fold",
            "Every image judged by a network that was trained without its fold; temperature and threshold "
            f"come from the other folds. A nearest neighbour reaches {folds['nearest_neighbour']:.3f}."
            + (_FIRST_ONLY if folds.get("of_first_training") else ""),
            _scores_table(folds),
            *_series(folds.get("series")),
        ]
    if "left_out_rounds" in metrics:
        rounds = metrics["left_out_rounds"]
        parts += [
            "## On sources it never saw",
            "For each line a network was trained in the same way without that source "
            f"(epochs: {rounds['plan']['epochs']}) and judged on it, at its own threshold."
            + _pooled(rounds)
            + (_FIRST_ONLY if rounds.get("of_first_training") else ""),
            _source_table(rounds["left_out"]),
            *_series(rounds.get("series")),
        ]
    if "external" in metrics:
        judged = {name: told for name, told in metrics["external"].items() if "count" in told}
        twins = sum(told["twins_left_out"] for told in metrics["external"].values())
        parts += [
            "## External collections",
            f"They took no part in training; {twins} images with a twin there are left out.",
            _source_table(judged),
        ]
    return parts


def _series(found: dict[str, Any] | None) -> list[str]:
    """Return how rules that make one answer of a series' slices do, of a run that compared them."""
    if found is None or "patients" not in found:
        return []
    figures = next(iter(found["rules"].values()))
    kinds = {kind: figures[kind] for kind in ("series", "blocks") if kind in figures}
    slices = found["slices"]
    told = (
        f"Of the same predictions: {kinds['series']['count']} series of {sum(found['patients'].values())} "
        f"patients that the networks had not seen, {kinds['series']['with_tumour']} of them with a tumour"
    )
    if "blocks" in kinds:
        told += (
            f", and {kinds['blocks']['count']} blocks of eight neighbouring slices of patients with one, "
            f"{kinds['blocks']['with_tumour']} of which show it"
        )
    told += (
        ". Sensitivity and specificity are at a threshold fitted on other patients, those of the "
        f"{slices['count']} slices too."
    )
    return ["### Series of slices", told, *(_rules_table(found, kind) for kind in kinds), _shipped(found)]


def _rules_table(found: dict[str, Any], kind: str) -> str:
    names = ("roc_auc", "sensitivity", "specificity", "sensitivity_at_specificity_0.95")
    rows = [("single slices", *(f"{found['slices'][name]:.3f}" for name in names), "")]
    for rule, figures in found["rules"].items():
        shown = f"**{rule}**" if rule == found["chosen"] else rule
        cells = (f"{figures[kind][name]:.3f}" for name in names)
        rows.append((shown, *cells, f"{figures['together']['roc_auc']:.3f}"))
    head = ("roc_auc", "sensitivity", "specificity", "sensitivity at 0.95", "roc_auc of both together")
    return _table((kind, *head), rows)


def _shipped(found: dict[str, Any]) -> str:
    if found["decision"] is None:
        return "Too few patients for a decision about series: the decision about images serves them too."
    return f"The model's rule is {found['chosen']}; its decision is fitted on all of these series and blocks."


def _pooled(rounds: dict[str, Any]) -> str:
    """Return what all that was left out shows together, of a run that says."""
    pooled = rounds.get("pooled", {})
    if pooled.get("roc_auc") is None:
        return ""
    return (
        f" All of them pooled, each source weighing the same: ROC AUC {pooled['roc_auc']:.3f}, sensitivity "
        f"{pooled['sensitivity_at_specificity_0.95']:.3f} at specificity 0.95. Temperature, threshold and "
        "band of the model come from these predictions, and from those of the images that decided the epochs."
    )


_UNSTATED = "see its publisher"
_USE = (
    "Sorting two-dimensional brain-MRI slices into those that look like the training collections' tumour "
    "slices and those that do not, to try out software and methods. Not for patients, not for triage, not "
    "for any decision about a person."
)
_FIRST_ONLY = (
    " In the same way as in the first of the trainings below: what the last one changed there is not known."
)
_LIMITS = (
    "- One slice at a time: it knows nothing of the neighbouring slices, the sequence or the patient.\n"
    "- In several collections the class goes with the source, so part of what it has learnt is the source.\n"
    "- Tumour types, sequences and planes that the collections lack are unknown to it.\n"
    "- Its heatmap explains the network; it does not outline a tumour."
)
_MAP_LIMITS = (
    "\n- The map of lesions was taught with masks, boxes and drawn lesions: it says about where the network "
    "sees one, at a sixteenth of the picture's resolution."
)


def _limits(report: dict[str, Any]) -> str:
    return _LIMITS if localisation(report["architecture"]) is None else _LIMITS + _MAP_LIMITS


def _facts(report: dict[str, Any]) -> str:
    decision = report["decision"]
    size = report["preprocessing"]["image_size"]
    rows = [
        ("architecture", report["architecture"]),
        ("input", f"{size} x {size} pixels, grey"),
        ("classes", ", ".join(report["classes"])),
        ("parameters", f"{report['parameters']:,}"),
        ("cost", f"{report['gflop_per_image']:.2f} GFLOP per image"),
        ("threshold", f"{decision['threshold']:.3f} for `{decision['positive']}`; uncertain from "
                      f"{decision['uncertain_low']:.3f} to {decision['uncertain_high']:.3f}"),
        ("temperature", f"{decision['temperature']:.3f}"),
        ("series", _series_rule(report.get("series"))),
        ("seed", report["provenance"]["seed"]),
        ("weights sha256", f"`{report['weights']['sha256']}`"),
    ]  # fmt: skip
    return _table(("", ""), rows)


def _series_rule(series: dict[str, Any] | None) -> str:
    """Return how a series is judged, in one line."""
    if series is None:
        return "mean logit of the loudest 30 % of its slices, at the threshold for images"
    return (
        f"{series['scale']:.3f} times the mean logit of the loudest {series['share']:.0%} of its slices, "
        f"{series['offset']:+.3f}; threshold {series['threshold']:.3f}, uncertain from "
        f"{series['uncertain_low']:.3f} to {series['uncertain_high']:.3f}"
    )


def _data(report: dict[str, Any]) -> str:
    rows = []
    for source in report["provenance"]["data"]:
        counts = ", ".join(f"{label} {count}" for label, count in source["images"].items())
        rows.append((source["source"], counts, source["trained_on"], source.get("licence", _UNSTATED)))
    return _table(("source", "images", "trained on", "licence"), rows)


def _excluded_files(report: dict[str, Any]) -> list[str]:
    """Return what the exclude list left out of the sources; nothing without one."""
    told = [
        f"{source['source']} {sum(source['excluded'].values())} ({source['excluded']['reject']} to reject)"
        for source in report["provenance"]["data"]
        if source.get("excluded")
    ]
    if not told:
        return []
    return [
        "Files left out by name, with a reason each (`--exclude-list`), some of them examples of what the "
        f"distance limit must reject: {', '.join(told)}."
    ]


def _licence(report: dict[str, Any]) -> str:
    """Return under which terms the weights may be used: those of the images they were made from."""
    licences = [str(source.get("licence", _UNSTATED)) for source in report["provenance"]["data"]]
    parts = [
        "The program's MIT licence is for its code, not for these weights. Whether weights derive from the "
        "images they were trained on, in the sense of a licence, is not settled: take it that they do, and "
        "that the terms of every source in the table above hold for them."
    ]
    if any("NC" in licence.upper().replace("-", " ").split() for licence in licences):
        parts.append("At least one source forbids commercial use (NC): do not use them commercially.")
    if any("SA" in licence.upper().replace("-", " ").split() for licence in licences):
        parts.append(
            "At least one asks that what is made of it be shared alike and its authors named (BY, SA)."
        )
    if any(licence in {"not stated", _UNSTATED} for licence in licences):
        parts.append(
            "At least one has no licence stated here: ask its publisher before they serve for more than "
            "research."
        )
    if "lite0" in report["architecture"] and not report.get("plan", {}).get("from_scratch", True):
        parts.append("The training began with EfficientNet-Lite0's ImageNet weights (Apache-2.0).")
    return " ".join(parts)


def _commands(report: dict[str, Any]) -> str:
    """Return what makes the model again from nothing; models of older versions have a --resume stored."""
    command: str = report["provenance"]["command"]
    return command.replace(" --resume", "")


def _scores_table(scores: dict[str, Any], what: str = "images") -> str:
    rows = []
    for name in _FIGURES:
        figure = scores.get(name)
        if figure and figure.get("value") is not None:
            low, high = figure.get("low"), figure.get("high")
            rows.append(
                (name, f"{figure['value']:.3f}", f"{low:.3f} to {high:.3f}" if low is not None else "")
            )
    return _table((f"{scores['count']} {what}", "value", "95 % interval"), rows)


def _source_table(by_source: dict[str, Any]) -> str:
    names = ("accuracy", "sensitivity", "specificity", "roc_auc", "ece")
    told = any("rejected" in scores for scores in by_source.values())
    rows = [
        (
            source,
            scores["count"],
            *(_value(scores.get(name)) for name in names),
            *([f"{scores['rejected']:.1%}"] if told else []),
        )
        for source, scores in by_source.items()
    ]
    return _table(("source", "images", *names, *(["rejected"] if told else [])), rows)


def _value(figure: Any) -> str:
    value = figure.get("value") if isinstance(figure, dict) else None
    return "-" if value is None else f"{value:.3f}"


def _table(head: tuple[Any, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
