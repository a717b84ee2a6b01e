"""Prometheus text exposition format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Metric:
    """A metric family: its samples share name, type and help."""

    name: str  # a counter's ends in _total
    help: str
    type: str = "gauge"
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float | None, **labels: str) -> Metric:
        """Add a sample; None is not known, and adds none."""
        if value is not None:
            self.samples.append((labels, float(value)))
        return self

    def one_of(self, current: str, words: Iterable[str], label: str) -> Metric:
        """Add a sample a word: 1 for the current one, 0 for all others."""
        for word in words:
            self.add(float(word == current), **{label: word})
        return self


def exposition(metrics: Iterable[Metric]) -> str:
    """Return the metrics as a scrape's body; those without a sample are left out."""
    return "".join(_family(metric) for metric in metrics if metric.samples)


def _family(metric: Metric) -> str:
    words = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    lines = [f"# HELP {metric.name} {words}", f"# TYPE {metric.name} {metric.type}"]
    lines += [f"{metric.name}{_labels(labels)} {_number(value)}" for labels, value in metric.samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 1 << 53 else repr(value)
