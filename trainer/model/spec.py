"""Model spec: everything but the tensors that is needed to judge an image.

The spec travels inside the weights file (see `trainer.model.weights`), so a file alone is enough: no
flag of the daemon repeats what training decided.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from config.errors import WeightsError
from trainer.model.spec_ranges import check_options, check_quantiles, check_range, check_texts

# Raised when a field is added that an older reader must not ignore; a file with a higher number is
# refused instead of being half understood.
SPEC_FORMAT = 1


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
        spec: ModelSpec = _build(cls, raw, "spec")
        _check(spec)
        return spec


_NESTED: dict[str, type] = {
    "preprocessing": Preprocessing,
    "decision": Decision,
    "out_of_distribution": OutOfDistribution,
    "provenance": Provenance,
}
_TUPLES = frozenset({"classes", "data"})
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "str | None": (str, type(None)),
}


def _refuse_newer(number: object) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise WeightsError("the weights file's model description has no format number")
    if number > SPEC_FORMAT:
        raise WeightsError(
            f"the weights file has format {number}, this version reads up to {SPEC_FORMAT}",
            hint="upgrade bt-daemon",
        )


def _build(cls: Any, raw: Any, where: str) -> Any:
    """Make the dataclass `cls` from a JSON object, checking names and types on the way."""
    if not isinstance(raw, dict):
        raise WeightsError(f"the weights file's {where} is not an object")
    known = {item.name: item for item in fields(cls)}
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise WeightsError(
            f"the weights file's {where} has unknown fields: {', '.join(map(repr, unknown[:3]))}"
        )
    values: dict[str, Any] = {}
    for name, value in raw.items():
        values[name] = _value(name, str(known[name].type), value, f"{where}.{name}")
    try:
        return cls(**values)
    except TypeError as error:
        raise WeightsError(f"the weights file's {where} lacks a field") from error


def _value(name: str, kind: str, value: Any, where: str) -> Any:
    nested = _NESTED.get(name)
    if nested is not None and is_dataclass(nested):
        return None if value is None and "None" in kind else _build(nested, value, where)
    if name in _TUPLES:
        item = str if name == "classes" else dict
        if not isinstance(value, list) or not all(isinstance(entry, item) for entry in value):
            raise WeightsError(f"the weights file's {where} is not a list of {item.__name__}")
        return tuple(value)
    allowed = _KINDS.get(kind, (dict,))
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise WeightsError(f"the weights file's {where} is not of type {kind}")
    if kind == "float":
        number = float(str(value))
        if not abs(number) < float("inf"):
            raise WeightsError(f"the weights file's {where} is not a finite number")
        check_range(where, number)
        return number
    if kind == "int" and isinstance(value, int):
        check_range(where, value)
    return value


def _check(spec: ModelSpec) -> None:
    """Refuse values that would fail later, far from their cause."""
    check_texts(spec.classes, (spec.name, spec.version, spec.architecture), spec.meanings)
    check_options(spec.architecture_options)
    check_quantiles(spec.provenance.metrics)
    decision, how = spec.decision, spec.preprocessing
    if decision.positive is not None and decision.positive not in spec.classes:
        raise WeightsError(
            f"the weights file's positive class {decision.positive!r} is not one of its classes"
        )
    if decision.uncertain_low > decision.uncertain_high:
        raise WeightsError("the weights file's uncertain band ends before it begins")
    if how.low_percentile >= how.high_percentile:
        raise WeightsError("the weights file's percentiles are not in order")
    if spec.preprocessing.version != 1:
        raise WeightsError(
            f"the weights file needs preprocessing {spec.preprocessing.version}, this version has 1",
            hint="upgrade bt-daemon",
        )
