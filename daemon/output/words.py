"""The words in which scores and counts are told, the same in every command and on every page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from config.text import printable
from daemon.output.cells import confidence_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storage.queries.series_rows import SeriesRow
    from storage.queries.totals import Totals
    from trainer.model.spec import ModelSpec

# The colours of a result's status at a terminal.
STATUS_COLOURS = {"ok": "green", "uncertain": "yellow", "rejected": "magenta", "error": "red"}

SCORE = (
    "score is the calibrated probability of the class that is looked for: from the model's threshold on the "
    "answer is that class, inside the band around it the answer is uncertain and a person should look"
)
_MOST_MODELS = 3  # told below a table


@dataclass(frozen=True, slots=True)
class ScoreLimits:
    """What the scores of a model are compared with."""

    positive: str | None
    threshold: float | None
    uncertain_low: float | None
    uncertain_high: float | None


class Compared(Protocol):
    """What a score is compared with, of a row or of a model."""

    @property
    def positive(self) -> str | None: ...  # noqa: D102
    @property
    def threshold(self) -> float | None: ...  # noqa: D102
    @property
    def uncertain_low(self) -> float | None: ...  # noqa: D102
    @property
    def uncertain_high(self) -> float | None: ...  # noqa: D102


class Judgement(Compared, Protocol):
    """A result, as far as the words need it."""

    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def weights_sha256(self) -> str: ...  # noqa: D102


def score_limits(spec: ModelSpec) -> ScoreLimits:
    """Return what a model's scores are compared with."""
    decision = spec.decision
    threshold = None if decision.positive is None else decision.threshold
    return ScoreLimits(decision.positive, threshold, decision.uncertain_low, decision.uncertain_high)


def compared_with(one: Compared) -> str:
    """Return the threshold and the band: 'yes' from 0.272, uncertain between 0.122 and 0.422."""
    parts = []
    if one.positive is not None and one.threshold is not None:
        parts.append(f"{printable(repr(one.positive))} from {_number(one.threshold)}")
    low, high = one.uncertain_low, one.uncertain_high
    if low is not None and high is not None and low < high:
        parts.append(f"uncertain between {_number(low)} and {_number(high)}")
    return ", ".join(parts)


def score_of(one: Compared) -> str:
    """Return what a score is and what it is compared with, '' where that is not known (schema 0001)."""
    if one.uncertain_low is None and one.threshold is None:
        return ""
    whose = "the likeliest class" if one.positive is None else printable(repr(one.positive))
    compared = compared_with(one)
    return f"calibrated probability of {whose}" + (f"; {compared}" if compared else "")


def scores_of(rows: Iterable[Judgement]) -> list[str]:
    """Return a line for each model behind the rows: what its scores are and are compared with."""
    models = {row.weights_sha256: row for row in rows}
    told = [(row, words) for row in models.values() if (words := score_of(row))]
    lines = [
        f"score: {words} ({printable(row.model)}{f' {row.weights_sha256[:8]}' if len(models) > 1 else ''})"
        for row, words in told[:_MOST_MODELS]
    ]
    return lines + ([f"{len(told) - _MOST_MODELS} more models: see bt-daemon show ID"] * (len(told) > 3))


def rests_on(row: SeriesRow) -> str:
    """Return what a series' answer is made of: 22 slices in 22 files; 1 rejected, without a vote."""
    slices, files = (
        f"{number:,} {one}{'' if number == 1 else 's'}"
        for number, one in ((row.slices, "slice"), (row.files, "file"))
    )
    return f"{slices} in {files}" + (f"; {row.rejected:,} rejected, without a vote" if row.rejected else "")


def counted(found: Totals) -> str:
    """Return the number of images, and of judgements where that is another (or images were not counted)."""
    parts = []
    if found.images is not None:
        parts.append(f"{found.images:,} image{'' if found.images == 1 else 's'}")
    if found.images != found.judgements:
        by = f"{found.models} models" if found.models > 1 else "one model on several engines"
        parts.append(f"{found.judgements:,} judgements by {by}")
    return ", ".join(parts)


def _number(share: float) -> str:
    return confidence_text(share).rstrip("0").rstrip(".") or "0"
