"""Fits what a model says to images of one's own, without training it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.errors import DataError
from config.text import printable
from trainer.data.dataset import find_images, load_dataset
from trainer.data.groups import group_ids, near_duplicates
from trainer.evaluation.calibration import fit_decision
from trainer.evaluation.evaluate import warning_of
from trainer.evaluation.report import scores
from trainer.model.identity import check_new_file
from trainer.model.seen import Seen
from trainer.model.spec import Decision
from trainer.model.weights import read_weights, write_weights
from trainer.networks.inference import predict
from trainer.networks.loading import load

# With fewer images of a class a threshold is a guess.
_FEWEST = 20


def recalibrate(
    weights_path: Path,
    roots: Sequence[Path],
    merge: Mapping[str, str],
    output: Path,
    sensitivity: float,
    command: str,
    cache: Path,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Write a copy of a weights file whose temperature, threshold and band fit labelled images.

    The network stays as it is; the distance limit too. Returns the decision before and after with the
    figures of both on these images, which lean to the good side for the new one: it was fitted on them.
    """
    check_new_file(output)
    weights = read_weights(weights_path)
    spec = weights.spec
    dataset = load_dataset(find_images(roots, merge), spec.preprocessing, cache, progress=progress)
    if unknown := sorted(set(dataset.classes) - set(spec.classes)):
        raise DataError(
            f"the model knows no class {printable(', '.join(unknown))}",
            hint=f"map folders to {', '.join(spec.classes)} with --merge",
        )
    labels = np.array([spec.classes.index(dataset.classes[one]) for one in dataset.labels], dtype=np.int64)
    fewest = int(np.bincount(labels, minlength=len(spec.classes)).min())
    if fewest < _FEWEST:
        raise DataError(
            f"a class has only {fewest} images", hint=f"give at least {_FEWEST} of each, better hundreds"
        )
    logits, _ = predict(load(weights), dataset.pictures, torch.device("cpu"))
    decision = fit_decision(logits, labels, spec.classes, sensitivity)
    groups = group_ids(dataset.hashes, near_duplicates(dataset.pictures))
    made = replace(spec.provenance, command=f"{spec.provenance.command}\n{command}".strip())
    digest = write_weights(
        output,
        replace(spec, decision=decision, provenance=made),
        weights.tensors,
        weights.seen | Seen.of(fitted=dataset.hashes),
    )
    return {
        "warning": warning_of(weights, dataset),
        "weights": {"file": output.name, "sha256": digest},
        "before": _told(spec.decision, scores(logits, labels, groups, spec.decision, spec.classes)),
        "after": _told(decision, scores(logits, labels, groups, decision, spec.classes)),
    }


def recalibration_text(report: Mapping[str, Any], output: Path) -> str:
    """Return the two decisions side by side, and where the new one was written."""
    lines = []
    for when in ("before", "after"):
        told, figures = report[when]["decision"], report[when]["figures"]
        shown = [
            f"{name} {figures[name]['value']:.3f}"
            for name in ("accuracy", "sensitivity", "specificity", "ece")
            if isinstance(figures.get(name), dict) and figures[name]["value"] is not None
        ]
        lines.append(
            f"{when:<7} temperature {told['temperature']:.3f}, threshold {told['threshold']:.3f}: "
            + ", ".join(shown)
        )
    file, digest = printable(str(output)), report["weights"]["sha256"][:8]
    lines += [
        f"{file} is written (sha256 {digest}): temperature, threshold and uncertain band are new, "
        "the network is the same.",
        f"Use it with: bt-daemon watch --weights {file}",
    ]
    return "\n".join(lines)


def _told(decision: Decision, figures: dict[str, Any]) -> dict[str, Any]:
    fields = {name: getattr(decision, name) for name in ("temperature", "positive", "threshold")}
    return {"decision": fields, "figures": figures}
