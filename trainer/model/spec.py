"""Model spec: everything but the tensors that is needed to judge an image.

The spec travels inside the weights file (see `trainer.model.weights`), so a file alone is enough: no
flag of the daemon repeats what training decided.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

import msgspec

from config.errors import WeightsError
from trainer.model.spec_ranges import check_options, check_quantiles, check_range, check_texts

# Raised when something is added that an older reader must not ignore; a file with a higher number is
# refused instead of being half understood. 2: reference answers (`trainer.model.reference`); 3: series.
SPEC_FORMAT = 3


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a decoded picture becomes the network's input; see `trainer.model.preprocess`."""

    version: int = 1
    image_size: int = 256  # pixels, the input is square
    crop_head: bool = True
    margin: float = 0.04  # kept around the head, as a share of its longer side
    low_percentile: float = 0.5  # mapped to 0
    high_percentile: float = 99.5  # mapped to 255
    mean: float = 0.5  # of the input scaled to 0..1; applied inside the network
    std: float = 0.5


@dataclass(frozen=True, slots=True)
class Decision:
    """How calibrated probabilities become a label."""

    temperature: float = (
        1.0  # logits are divided by it (Guo et al. 2017, "On Calibration of Modern Neural Networks")
    )
    positive: str | None = None  # the class the threshold is about; None: the likeliest class wins
    threshold: float = 0.5  # probability of `positive` from which the label is `positive`
    uncertain_low: float = 0.5  # the band around the threshold that a person should look at
    uncertain_high: float = 0.5


@dataclass(frozen=True, slots=True)
class SeriesDecision:
    """How the scores of a series' slices become one answer; see `trainer.model.series_rule`.

    The calibrated probability of the positive class is `sigmoid(scale * pooled + offset)` (Platt 1999) of the
    mean logit of the slices that speak loudest for it.
    """

    share: float = 0.3  # of the slices, the loudest: their logits are averaged
    scale: float = 1.0
    offset: float = 0.0
    threshold: float = 0.5  # probability from which the series is called positive
    uncertain_low: float = 0.5
    uncertain_high: float = 0.5


@dataclass(frozen=True, slots=True)
class OutOfDistribution:
    """When an image is too far from the training images to be given a class.

    The distance is Mahalanobis' on the pooled features (Lee et al. 2018, "A Simple Unified
    Framework for Detecting Out-of-Distribution Samples"), one shared covariance. The tensors
    `ood.means` (classes, features) and `ood.whitening` (features, rank) lie in the weights file.
    """

    max_distance: float
    acceptance: float  # share of held-out training-like images that the limit lets pass


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model comes from: enough to make it again."""

    command: str = ""
    seed: int = 0
    created: str = ""  # ISO 8601, UTC
    software: dict[str, str] = field(default_factory=dict)  # package -> version
    data: tuple[dict[str, Any], ...] = ()  # one per source: name, counts, licence, hash
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything about a model that is not a tensor of its network."""

    name: str
    version: str
    architecture: str  # a name of `bt-train models`
    classes: tuple[str, ...]  # in the order of the logits
    architecture_options: dict[str, Any] = field(default_factory=dict)
    meanings: dict[str, str] = field(default_factory=dict)  # class -> words for people
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    decision: Decision = field(default_factory=Decision)
    series: SeriesDecision | None = None  # None: the decision about one image serves series too
    out_of_distribution: OutOfDistribution | None = None
    provenance: Provenance = field(default_factory=Provenance)
    format: int = SPEC_FORMAT

    def to_json(self) -> str:
        """Return the spec as one JSON object, keys sorted."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Return the spec that `to_json` wrote; raise WeightsError for anything else."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise WeightsError("the weights file's model description is not JSON") from error
        if not isinstance(raw, dict):
            raise WeightsError("the weights file's model description is not an object")
        _refuse_newer(raw.get("format"))
        try:
            spec = msgspec.convert(raw, cls)
        except (msgspec.ValidationError, OverflowError) as error:
            raise WeightsError(f"the weights file's {_reason(error)}") from error
        _check_fields(spec, raw, "spec")
        _check(spec)
        return spec


def _refuse_newer(number: object) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise WeightsError("the weights file's model description has no format number")
    if number > SPEC_FORMAT:
        raise WeightsError(
            f"the weights file has format {number}, this version reads up to {SPEC_FORMAT}",
            hint="upgrade bt-daemon",
        )


def _reason(error: Exception) -> str:
    """Return which field is wrong and why, of msgspec's "Expected `float`, got `str` - at `$.a.b`"."""
    problem, _, where = str(error).partition(" - at `$")
    return f"spec{where.removesuffix('`')} is wrong: {problem[:1].lower()}{problem[1:]}"


def _check_fields(made: Any, raw: dict[str, Any], where: str) -> None:
    """Refuse fields that the dataclass `made` lacks, and numbers that are not finite or out of range."""
    if unknown := sorted(set(raw) - {item.name for item in fields(made)}):
        raise WeightsError(
            f"the weights file's {where} has unknown fields: {', '.join(map(repr, unknown[:3]))}"
        )
    for name, inner in raw.items():
        value = getattr(made, name)
        if is_dataclass(value):
            _check_fields(value, inner, f"{where}.{name}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if not abs(value) < float("inf"):
                raise WeightsError(f"the weights file's {where}.{name} is not a finite number")
            check_range(f"{where}.{name}", value)


def _check(spec: ModelSpec) -> None:
    """Refuse values that would fail later, far from their cause."""
    check_texts(spec.classes, (spec.name, spec.version, spec.architecture), spec.meanings)
    check_options(spec.architecture_options)
    check_quantiles(spec.provenance.metrics)
    decision, preprocessing = spec.decision, spec.preprocessing
    if decision.positive is not None and decision.positive not in spec.classes:
        raise WeightsError(
            f"the weights file's positive class {decision.positive!r} is not one of its classes"
        )
    for one in (decision, spec.series or decision):
        if one.uncertain_low > one.uncertain_high:
            raise WeightsError("the weights file's uncertain band ends before it begins")
    if preprocessing.low_percentile >= preprocessing.high_percentile:
        raise WeightsError("the weights file's percentiles are not in order")
    if preprocessing.version != 1:
        raise WeightsError(
            f"the weights file needs preprocessing {preprocessing.version}, this version has 1",
            hint="upgrade bt-daemon",
        )
