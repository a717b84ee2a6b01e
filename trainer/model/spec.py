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
from trainer.model.foreign_network import ForeignNetwork, SquareFraming
from trainer.model.spec_ranges import check_options, check_quantiles, check_range, check_texts

# Raised when something is added that an older reader must not ignore; a file with a higher number is
# refused instead of being half understood. 2: reference answers (`trainer.model.reference`); 3: series.
SPEC_FORMAT = 3
# 4: colour, and networks that were not trained here.
# Grey files keep format 3 and its bytes, so that every reader of it reads them.
COLOUR_FORMAT = 4
GREY, COLOUR = 1, 3  # channels

# What torchvision's networks were trained with; https://docs.pytorch.org/vision/stable/models.html
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PerChannel = float | tuple[float, float, float]  # one number for all channels, or one for each of RGB


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a decoded picture becomes the network's input; see `trainer.model.preprocess`."""

    version: int = 1
    image_size: int = 256  # pixels, the input is square
    crop_head: bool = True
    margin: float = 0.04  # kept around the head, as a share of its longer side
    low_percentile: float = 0.5  # mapped to 0
    high_percentile: float = 99.5  # mapped to 255
    mean: PerChannel = 0.5  # of the input scaled to 0..1; applied inside the network
    std: PerChannel = 0.5
    channels: int = GREY  # 3: RGB, without head crop and stretch of grey levels
    framing: SquareFraming | None = None  # of a network that was not trained here: neither crop nor stretch

    @property
    def is_colour(self) -> bool:
        """Whether the network's input has the three channels of RGB."""
        return self.channels == COLOUR

    @property
    def reading_size(self) -> int:
        """The input size, in pixels, for which files are decoded: with a framing they are not reduced."""
        return self.image_size if self.framing is None else 1 << 30

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input: (S, S), in colour (S, S, 3)."""
        return (self.image_size, self.image_size) + ((COLOUR,) if self.is_colour else ())

    @classmethod
    def of_colour(
        cls, image_size: int, mean: PerChannel = IMAGENET_MEAN, std: PerChannel = IMAGENET_STD
    ) -> Preprocessing:
        """Return how colour pictures become an input of `image_size` pixels a side."""
        return cls(image_size=image_size, crop_head=False, mean=mean, std=std, channels=COLOUR)


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
    foreign: ForeignNetwork | None = None  # of a network that was not trained here
    provenance: Provenance = field(default_factory=Provenance)
    format: int = SPEC_FORMAT

    @property
    def has_maps(self) -> bool:
        """Whether its network gives class-activation maps: every one that was trained here does."""
        return self.foreign is None

    def to_json(self) -> str:
        """Return the spec as one JSON object, keys sorted.

        Of grey models it is, byte for byte, what versions without colour wrote.
        """
        told = asdict(self)
        if self.preprocessing.is_colour or self.foreign is not None:
            told["format"] = max(self.format, COLOUR_FORMAT)
        else:
            del told["preprocessing"]["channels"]
        if self.foreign is None:
            del told["foreign"], told["preprocessing"]["framing"]
        return json.dumps(told, sort_keys=True)

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
    if number > COLOUR_FORMAT:
        raise WeightsError(
            f"the weights file has format {number}, this version reads up to {COLOUR_FORMAT}",
            hint="upgrade bt-daemon",
        )


def _reason(error: Exception) -> str:
    """Return which field is wrong and why, of msgspec's "Expected `float`, got `str` - at `$.a.b`"."""
    problem, _, where = str(error).partition(" - at `$")
    return f"spec{where.removesuffix('`')} is wrong: {problem[:1].lower()}{problem[1:]}"


_PER_CHANNEL = ("mean", "std")


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
        for number in value if name in _PER_CHANNEL and isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                if not abs(number) < float("inf"):
                    raise WeightsError(f"the weights file's {where}.{name} is not a finite number")
                check_range(f"{where}.{name}", number)


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
    _check_channels(preprocessing)
    if (spec.foreign is None) != (preprocessing.framing is None):
        raise WeightsError("the weights file frames pictures, or does not, for a network of another kind")
    if preprocessing.version != 1:
        raise WeightsError(
            f"the weights file needs preprocessing {preprocessing.version}, this version has 1",
            hint="upgrade bt-daemon",
        )


def _check_channels(preprocessing: Preprocessing) -> None:
    if preprocessing.channels not in (GREY, COLOUR):
        raise WeightsError(f"the weights file's pictures have {preprocessing.channels} channels, not 1 or 3")
    if preprocessing.is_colour and preprocessing.crop_head:
        raise WeightsError("the weights file crops heads out of colour pictures, which cannot be")
    if not preprocessing.is_colour and not all(
        isinstance(number, float) for number in (preprocessing.mean, preprocessing.std)
    ):
        raise WeightsError("the weights file has a mean or std for each colour of grey pictures")
