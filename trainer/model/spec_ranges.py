"""The values that the fields of a model description may have: outside of them a file is damaged or absurd.

A weights file is refused for such a value when it is opened, in one line that names the field; later it
would fail in a worker process, or judge every image alike without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.errors import WeightsError

_FARTHEST = 1e6  # a distance
# Field -> least and greatest value. Wider than anything that was ever trained, narrow enough that nothing
# computed from them overflows.
_RANGES: dict[str, tuple[float, float]] = {
    "spec.preprocessing.image_size": (16, 4096),
    "spec.preprocessing.framing.shorter_side": (0, 4096),
    "spec.preprocessing.margin": (0, 1),
    "spec.preprocessing.low_percentile": (0, 100),
    "spec.preprocessing.high_percentile": (0, 100),
    "spec.preprocessing.mean": (-10, 10),
    "spec.preprocessing.std": (0.001, 10),
    "spec.decision.temperature": (0.01, 100),  # bt-train fits 0.2 to 10
    "spec.decision.threshold": (0, 1),
    "spec.decision.uncertain_low": (0, 1),
    "spec.decision.uncertain_high": (0, 1),
    "spec.series.share": (0.01, 1),
    "spec.series.scale": (0.001, 1000),
    "spec.series.offset": (-1000, 1000),
    "spec.series.threshold": (0, 1),
    "spec.series.uncertain_low": (0, 1),
    "spec.series.uncertain_high": (0, 1),
    "spec.out_of_distribution.max_distance": (1e-6, _FARTHEST),
    "spec.out_of_distribution.acceptance": (0, 1),
}
_LONGEST_TEXT = 1_000  # characters, of names, classes and their meanings
_MOST_CLASSES = 1_000
_WIDEST = 4_096  # channels of a layer
_MOST_LAYERS = 64


def check_range(where: str, number: float) -> None:
    """Raise WeightsError if a field ("spec.decision.threshold") cannot have this value."""
    least, greatest = _RANGES.get(where, (float("-inf"), float("inf")))
    if not least <= number <= greatest:
        raise WeightsError(f"the weights file's {where} is outside {least:g}..{greatest:g}")


def check_texts(classes: tuple[str, ...], names: tuple[str, ...], meanings: Mapping[str, Any]) -> None:
    """Raise WeightsError for names that are none or too long, or too many classes."""
    if not 2 <= len(classes) <= _MOST_CLASSES or len(set(classes)) != len(classes):
        raise WeightsError(f"the weights file needs 2 to {_MOST_CLASSES:,} classes, all different")
    texts = (*names, *classes)
    if not all(texts) or any(len(text) > _LONGEST_TEXT for text in (*texts, *meanings)):
        raise WeightsError("the weights file has an empty or a very long name")
    if not all(isinstance(words, str) and len(words) <= _LONGEST_TEXT for words in meanings.values()):
        raise WeightsError("the weights file has a meaning of a class that is not a short text")


def check_options(options: Mapping[str, Any]) -> None:
    """Raise WeightsError for options of an architecture that no network of a sane size has."""
    for value in options.values():
        values = value if isinstance(value, list) else [value]
        if len(values) > _MOST_LAYERS or not all(_is_width(one) for one in values):
            raise WeightsError("the weights file's spec.architecture_options are no numbers of channels")


def check_quantiles(metrics: Mapping[str, Any]) -> None:
    """Raise WeightsError if figures of images held out are none.

    By them engines are picked and drift is seen; all of them are optional.
    """
    greatest = {"score_quantiles": 1.0, "distance_quantiles": _FARTHEST}
    for part in ("validation", "recalibration"):
        told = metrics.get(part, {})
        if not isinstance(told, dict) or not all(
            (
                *(_rise(told.get(name, []), most) for name, most in greatest.items()),
                _rise([told.get("rejected", 0.0)], 1.0),
            )
        ):
            raise WeightsError("the weights file's spec.provenance.metrics are none")


def _rise(values: object, greatest: float) -> bool:
    """Whether a value is a list of numbers from 0 to `greatest`, none smaller than the one before."""
    if not isinstance(values, list) or not all(
        isinstance(one, float | int) and 0 <= one <= greatest for one in values
    ):
        return False
    return values == sorted(values)


def _is_width(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _WIDEST
