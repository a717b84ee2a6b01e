"""Templates and the words in them: every text that came from outside is escaped, and made printable."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from config.text import printable, printable_name
from daemon.output.cells import clock_time, confidence_text
from daemon.pages.charts import colour, confidence_chart, timeline_chart
from storage.records import Status

if TYPE_CHECKING:
    from daemon.pages.overview import Overview
    from trainer.spec import ModelSpec

STATIC = Path(__file__).parent / "static"
_SHOWN_METRICS = {
    "accuracy": "accuracy",
    "sensitivity": "sensitivity (tumours found)",
    "specificity": "specificity",
    "roc_auc": "ROC-AUC",
    "ece": "expected calibration error",
}


@dataclass(frozen=True, slots=True)
class ModelWords:
    """What a page says of the model at hand."""

    positive: str | None
    shown: str  # the class whose heatmap is drawn
    meanings: Mapping[str, str]
    facts: tuple[tuple[str, str], ...]


def model_words(spec: ModelSpec, weights_sha256: str) -> ModelWords:
    """Return a model's card in some lines."""
    decision = spec.decision
    facts = [
        ("model", printable(f"{spec.name} {spec.version} {weights_sha256[:8]}")),
        ("network", f"{printable(spec.architecture)}, input {spec.preprocessing.image_size} pixels"),
        ("classes", ", ".join(printable(f"{one}: {spec.meanings.get(one, one)}") for one in spec.classes)),
    ]
    if decision.positive is not None:
        facts.append(
            ("threshold", f"{printable(decision.positive)} from a probability of {decision.threshold:.3f}")
        )
        band = f"{decision.uncertain_low:.3f} to {decision.uncertain_high:.3f}"
        facts.append(("uncertain", f"from {band}"))
    facts.append(("calibration", f"temperature {decision.temperature:.3f}, fitted on held-out images"))
    measured = spec.provenance.metrics.get("validation", {})
    for key, words in _SHOWN_METRICS.items():
        figure = measured.get(key) if isinstance(measured, dict) else None
        if isinstance(figure, dict) and isinstance(figure.get("value"), int | float):
            facts.append((words, _with_interval(figure)))
    shown = decision.positive if decision.positive is not None else spec.classes[-1]
    return ModelWords(decision.positive, shown, dict(spec.meanings), tuple(facts))


@functools.cache
def environment() -> Environment:
    """Return the templates; an unknown name in one is an error, not an empty place."""
    made = Environment(
        loader=PackageLoader("daemon.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    made.globals.update(
        printable=printable,
        name=printable_name,
        clock=clock_time,
        sure=lambda value: "" if value is None else confidence_text(value),
        share=lambda part, whole: f"{part / whole:.0%}" if whole else "",
        count=lambda found, status: found.with_status(Status(status)),
        meaning=meaning,
        colour=lambda label, found, model: colour(label, Status.OK, found.labels, model.positive),
        shade=lambda label, labels, model: colour(label, Status.OK, labels, model.positive),
        timeline=_timeline,
        confidences=lambda found, model: Markup(confidence_chart(found.histogram, model.positive)),  # noqa: S704
    )
    return made


def render(template: str, **values: Any) -> str:
    """Return a page."""
    return environment().get_template(template).render(**values)


def meaning(label: str, model: ModelWords) -> str:
    """Return a class as people know it: yes (tumour)."""
    words = model.meanings.get(label)
    return printable(f"{label} ({words})" if words and words != label else label)


def _timeline(found: Overview, model: ModelWords, zone: tzinfo) -> Markup:
    # charts escapes what it writes
    return Markup(timeline_chart(found, model.positive, zone))  # noqa: S704


def _with_interval(figure: Mapping[str, Any]) -> str:
    text = f"{figure['value']:.3f}"
    low, high = figure.get("low"), figure.get("high")
    return f"{text} ({low:.3f} to {high:.3f})" if low is not None and high is not None else text
