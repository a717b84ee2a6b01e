"""Overview figures of a page: what came in, what was found, how sure it is; all of them queries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from storage.queries.results import rows
from storage.queries.series_rows import series_summary
from storage.queries.statistics import TimelineRow, models, reasons, score_histogram, timeline
from storage.queries.totals import ModelSummaryRow, Totals, summary_by_model, totals
from storage.query import Grouping, Query
from storage.records import Status

if TYPE_CHECKING:
    import sqlalchemy as sa

    from storage.queries.statistics import ModelRow, ReasonRow

BINS = 20
_STEPS = (60, 600, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 30 * 86_400)  # seconds a bar may stand for
_MOST_BARS = 60
_MOST_REASONS = 50


@dataclass(frozen=True, slots=True)
class ModelCounts:
    """How many images, or series, one model gave which class and status."""

    name: str
    version: str
    weights_sha256: str
    counts: tuple[ModelSummaryRow, ...]

    @property
    def total(self) -> int:
        """How many the model judged."""
        return sum(row.count for row in self.counts)

    @property
    def labels(self) -> list[str]:
        """The classes that were given, sorted."""
        return sorted({row.label for row in self.counts if row.label is not None})

    def with_status(self, status: Status) -> int:
        """How many of them have this status."""
        return sum(row.count for row in self.counts if row.status is status)

    def with_label(self, label: str) -> int:
        """How many of them were given this class."""
        return sum(row.count for row in self.counts if row.label == label)


@dataclass(frozen=True, slots=True)
class Overview:
    """The figures of a query's results."""

    totals: Totals
    by_model: tuple[ModelCounts, ...]  # most used first
    first_us: int | None  # times of the first and the last result, None without any
    last_us: int | None
    step_seconds: int  # what one bar of the timeline stands for
    bars: tuple[TimelineRow, ...]
    histogram: dict[str, list[int]]  # per class, how many scores in each of 20 equal parts of 0..1
    models: tuple[ModelRow, ...]
    reasons: tuple[ReasonRow, ...]  # of errors, most frequent first
    series: tuple[ModelCounts, ...]  # likewise, of series; () without any
    left_out: bool  # histogram and reasons: there were more results than should be looked at one by one

    @property
    def errors(self) -> int:
        """How many judgements ended in an error."""
        return sum(one.with_status(Status.ERROR) for one in self.by_model)

    @property
    def labels(self) -> list[str]:
        """The classes that were given, sorted."""
        return sorted({label for one in self.by_model for label in one.labels})


def overview(connection: sa.Connection, query: Query, most_rows: int | None = None) -> Overview:
    """Return the figures of a query; its sort, limit and page do not matter.

    With more than `most_rows` results those figures are left out for which each has to be read.
    """
    query = replace(query, limit=None, after=None)
    first_us, last_us = _ends(connection, query)
    step = _step(first_us, last_us)
    counted = totals(connection, query, patient=most_rows is None)
    left_out = most_rows is not None and counted.judgements > most_rows
    return Overview(
        totals=counted,
        by_model=_by_model(summary_by_model(connection, query)),
        first_us=first_us,
        last_us=last_us,
        step_seconds=step,
        bars=tuple(timeline(connection, query, step)),
        histogram={} if left_out else score_histogram(connection, query, BINS),
        models=tuple(models(connection, query)),
        reasons=() if left_out else tuple(reasons(connection, query, _MOST_REASONS)),
        series=_by_model(series_summary(connection, Grouping.SERIES, query)),
        left_out=left_out,
    )


def _by_model(found: list[ModelSummaryRow]) -> tuple[ModelCounts, ...]:
    groups: dict[str, list[ModelSummaryRow]] = {}
    for row in found:
        groups.setdefault(row.weights_sha256, []).append(row)
    return tuple(
        ModelCounts(rows[0].name, rows[0].version, weights, tuple(rows)) for weights, rows in groups.items()
    )


def _ends(connection: sa.Connection, query: Query) -> tuple[int | None, int | None]:
    found = []
    for reverse in (True, False):
        row = next(iter(list(rows(connection, replace(query, reverse=reverse, limit=1)))), None)
        found.append(None if row is None else row.completed_us)
    return found[0], found[1]


def _step(first_us: int | None, last_us: int | None) -> int:
    """Return the shortest step with which the timeline has at most sixty bars."""
    if first_us is None or last_us is None:
        return _STEPS[0]
    seconds = (last_us - first_us) / 1e6
    return next((step for step in _STEPS if seconds / step < _MOST_BARS), _STEPS[-1])
