"""Templates and the words in them: every text that came from outside is escaped, and made printable."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from config.text import DISCLAIMER, printable, printable_name
from daemon.heatmaps.model_lookup import NOT_HERE
from daemon.output.cells import clock_time, confidence_text
from daemon.output.words import SCORE, ScoreLimits, counted, score_limits, score_of
from daemon.web.pages.charts import colour, score_chart, spark, timeline_chart
from daemon.web.pages.review_chart import review_chart
from daemon.web.pages.slices_chart import slices_chart
from storage.queries.score_sql import doubt
from storage.records import Status
from trainer.model.foreign_network import NEVER_REJECTS, WITHOUT_MAPS

if TYPE_CHECKING:
    from daemon.heatmaps.model_lookup import ModelsAtHand
    from daemon.web.pages.overview import Overview
    from storage.queries.results import ResultRow
    from storage.queries.statistics import ModelRow
    from trainer.model.spec import ModelSpec

_MOST_CLASSES = 20  # named of a model
_MOST_LIMITS = 3  # thresholds drawn into one chart
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
    """What a page says of one model."""

    positive: str | None
    shown: str  # the class whose heatmap is drawn, "" when the model is not at hand
    meanings: Mapping[str, str]
    figures: tuple[tuple[str, str], ...]  # from its weights file, () when that is not at hand
    no_heatmap: str  # why there is none, "" where there is


class Weighed(Protocol):
    """Whatever knows by which weights it was judged."""

    @property
    def weights_sha256(self) -> str:
        """Return the weights' hash."""


class ModelBook:
    """What pages say of the models behind the rows, each by the hash of its weights."""

    def __init__(self, models: ModelsAtHand) -> None:
        self._models = models

    def of(self, weights_sha256: str) -> ModelWords:
        """Return what is known of a model from its own weights file, and nothing of any other model."""
        spec = self._models.spec(weights_sha256)
        if spec is None:
            return ModelWords(None, "", {}, (), NOT_HERE)
        positive = spec.decision.positive
        shown = positive if positive is not None else spec.classes[-1]
        return ModelWords(
            positive, shown, dict(spec.meanings), _figures(spec), "" if spec.has_maps else WITHOUT_MAPS
        )

    def card(self, weights_sha256: str) -> Mapping[str, float]:
        """Return a model's figures on its validation images by name, {} of a model that is not at hand."""
        return self._models.card(weights_sha256)

    def facts(self, model: ModelRow) -> list[tuple[str, str]]:
        """Return a model's card in some lines."""
        limits = self.limits(model)
        facts = [
            ("model", printable(f"{model.name} {model.version} {model.weights_sha256[:8]}")),
            ("score", score_of(limits)),
            *self.of(model.weights_sha256).figures,
        ]
        return [(name, value) for name, value in facts if value]

    def limits(self, model: ModelRow) -> ScoreLimits:
        """Return what the model's scores are compared with: as stored, else as its weights file says."""
        spec = self._models.spec(model.weights_sha256) if model.uncertain_low is None else None
        if spec is not None:
            return score_limits(spec)
        return ScoreLimits(model.positive, model.threshold, model.uncertain_low, model.uncertain_high)

    def different(self, models: Sequence[ModelRow]) -> list[ModelRow]:
        """Return the models once each, whatever engines they ran on."""
        return list({one.weights_sha256: one for one in reversed(models)}.values())[::-1]

    def positives(self, models: Sequence[ModelRow]) -> frozenset[str]:
        """Return the classes that the models look for."""
        found = (self.limits(one).positive for one in self.different(models))
        return frozenset(one for one in found if one is not None)

    def meaning(self, label: str, models: Sequence[Weighed]) -> str:
        """Return a class as people know it: yes (tumour)."""
        for one in models:
            words = self.of(one.weights_sha256).meanings.get(label)
            if words and words != label:
                return printable(f"{label} ({words})")
        return printable(label)


def _figures(spec: ModelSpec) -> tuple[tuple[str, str], ...]:
    colours = " in RGB" if spec.preprocessing.is_colour else ""
    figures = [
        ("network", f"{printable(spec.architecture)}, input {spec.preprocessing.image_size} pixels{colours}"),
        ("classes", _classes(spec)),
    ]
    if spec.foreign is not None:
        source, licence = spec.provenance.software.get("file", ""), spec.foreign.licence
        figures += [("file", printable(source)), ("licence", printable(licence)), ("heatmaps", "none")]
        return (*(one for one in figures if one[1]), ("rejection", NEVER_REJECTS))
    figures.append(("calibration", f"temperature {spec.decision.temperature:.3f}, fitted on held-out images"))
    measured = spec.provenance.metrics.get("validation", {})
    for key, words in _SHOWN_METRICS.items():
        figure = measured.get(key) if isinstance(measured, dict) else None
        if isinstance(figure, dict) and isinstance(figure.get("value"), int | float):
            figures.append((words, _with_interval(figure)))
    return tuple(figures)


def _classes(spec: ModelSpec) -> str:
    words = [
        printable(f"{one}: {spec.meanings[one]}" if one in spec.meanings else one) for one in spec.classes
    ]
    more = len(words) - _MOST_CLASSES
    return ", ".join(words[:_MOST_CLASSES]) + (f" and {more:,} more" if more > 0 else "")


@functools.cache
def environment() -> Environment:
    """Return the templates; an unknown name in one is an error, not an empty place."""
    made = Environment(
        loader=PackageLoader("daemon.web.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    made.globals.update(
        printable=printable,
        disclaimer=DISCLAIMER,
        name=printable_name,
        clock=clock_time,
        counted=counted,
        score_in_words=SCORE,
        score_of=score_of,
        not_here=NOT_HERE,
        doubt=lambda row: doubt(row.label, row.score, row.threshold),
        sure=_sure,
        share=lambda part, whole: f"{part / whole:.0%}" if whole else "",
        count=lambda found, status: found.with_status(Status(status)),
        colour=lambda label, labels, positives: colour(label, Status.OK, labels, positives),
        timeline=_timeline,
        slice_scores=lambda *told: Markup(slices_chart(*told)),  # noqa: S704 - as below
        shown_classes=_shown_classes,
        scores=_scores,
        spark=spark,
        review_chart=lambda shares: Markup(review_chart(shares)),  # noqa: S704 - as below
    )
    return made


def render(template: str, **values: Any) -> str:
    """Return a page."""
    return environment().get_template(template).render(**values)


def _sure(row: ResultRow) -> str:
    """Return how sure a result is in two words; of rows without a score their confidence."""
    if row.score is not None:
        return f"score {confidence_text(row.score)}"
    return "" if row.confidence is None else f"confidence {confidence_text(row.confidence)}"


def _shown_classes(rows: Sequence[Weighed], book: ModelBook) -> str:
    """Return the classes whose heatmaps are shown, as people know them."""
    shown = [book.meaning(book.of(row.weights_sha256).shown, [row]) for row in rows]
    return " or ".join(dict.fromkeys(filter(None, shown))) or "the class that was found"


def _timeline(found: Overview, book: ModelBook, zone: tzinfo) -> Markup:
    # charts escapes what it writes
    return Markup(timeline_chart(found, book.positives(found.models), zone))  # noqa: S704


def _scores(found: Overview, book: ModelBook) -> Markup:
    limits = dict.fromkeys(book.limits(one) for one in book.different(found.models))
    chart = score_chart(found.histogram, book.positives(found.models), list(limits)[:_MOST_LIMITS])
    return Markup(chart)  # noqa: S704 - as above


def _with_interval(figure: Mapping[str, Any]) -> str:
    text = f"{figure['value']:.3f}"
    low, high = figure.get("low"), figure.get("high")
    return f"{text} ({low:.3f} to {high:.3f})" if low is not None and high is not None else text
