"""Add a decision about series to a model that is there, without training it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from config.errors import DataError, UsageError
from config.text import printable
from trainer.evaluation.model_card import write_card
from trainer.evaluation.recalibrate import reference_answers
from trainer.model.identity import check_new_file, weights_sha256
from trainer.model.spec import SPEC_FORMAT, SeriesDecision
from trainer.model.weights import Weights, write_weights
from trainer.networks.loading import load
from trainer.training.run_folder import METRICS_NAME

_CARD_NAME = "CARD.md"


def check_output(weights: Path, output: Path) -> None:
    """Raise UsageError unless a model and what stands beside it can be written to `output`."""
    check_new_file(output)
    if _metrics_of(weights) is None:
        return
    for name in (METRICS_NAME, _CARD_NAME):
        if (output.parent / name).exists():
            raise UsageError(
                f"{printable(str(output.parent / name))} is there already",
                hint="give -o FILE in an empty folder: the model's figures and card go beside it",
            )


def add_series(weights: Weights, output: Path, report: Mapping[str, Any], command: str) -> str:
    """Write a copy of a model with the decision of a comparison of rules; return its sha256.

    The network stays as it is. Figures (metrics.json) that stand beside the model are written beside the
    copy, with the comparison among what was shown of sources left out, and its card. Raises DataError where
    the comparison came to no decision.
    """
    if report["decision"] is None:
        raise DataError(
            "too few patients with series, or scores that tell nothing of them: no decision was fitted",
            hint="it takes five patients with a tumour and five without",
        )
    spec = weights.spec
    commands = [line for line in spec.provenance.command.splitlines() if line != command]  # done again
    made = replace(spec.provenance, command="\n".join([*commands, command]))
    spec = replace(spec, series=SeriesDecision(**report["decision"]), provenance=made, format=SPEC_FORMAT)
    tensors = weights.tensors | reference_answers(weights, load(weights)).tensors()
    digest = write_weights(output, spec, tensors, weights.seen)
    if (figures := _metrics_of(weights.path)) is not None:
        metrics = figures["metrics"]
        if "left_out_rounds" in metrics:
            metrics["left_out_rounds"]["series"] = dict(report)
        figures |= json.loads(spec.to_json())
        figures["weights"] = {"file": output.name, "sha256": digest}
        text = json.dumps(figures, indent=1, sort_keys=True) + "\n"
        (output.parent / METRICS_NAME).write_text(text)
        write_card(json.loads(text), output.parent / _CARD_NAME)
    return digest


def _metrics_of(weights: Path) -> dict[str, Any] | None:
    """Return what stands beside a weights file, None if that is not its own or nothing."""
    try:
        found: dict[str, Any] = json.loads((weights.parent / METRICS_NAME).read_text(encoding="utf-8"))
        return found if found["weights"]["sha256"] == weights_sha256(weights) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
