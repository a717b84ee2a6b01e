"""Measure models by what people said: agreement, sensitivity and specificity, with 95 % intervals.

An image that was reviewed tells of every model that judged it and has the class that was said. Where people
contradict each other it is disputed and counts in nothing else.

What people looked at first is what the model was unsure of, so of all answers only the agreement is told, as
what it is; how good the model is, the random sample alone says (see `sample`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from storage.database import reading
from storage.queries.results import JOINED, needs_join, row_terms
from storage.queries.review_sql import OTHER_KIND, skips, truths
from storage.query import Query
from storage.records import Status
from storage.reviews.shares import Beside, Share, share
from storage.schema import ERROR_CODE, STATUS_CODES, label, model, result

_REJECTED = STATUS_CODES[Status.REJECTED]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a set of answered images says of a model; None where there was nothing to count."""

    images: int  # that were answered, without contradiction
    skipped: int  # that were only skipped: what is missing
    agreement: Share | None  # people said what the model said, be it a class or a rejection
    by_class: Mapping[str, Share]  # class that people said -> the model gave it
    rejected_right: Share | None  # of the rejected: people said that it is of another kind
    wrongly_rejected: Share | None  # of those that people gave a class: the model rejected it
    # Of a model with a class of interest. A rejected image counts by the class that its score would have
    # given it, as it does in the model's card.
    sensitivity: Share | None
    specificity: Share | None
    accuracy: Share | None


@dataclass(frozen=True, slots=True)
class ReviewFigures:
    """What people's answers say of one model, whatever engine it ran on."""

    model: str
    model_version: str
    weights_sha256: str
    classes: tuple[str, ...]
    positive: str | None  # the class of interest
    disputed: int  # images about which people contradict each other
    other_kind: int  # images that people say are of no kind the model is for
    answers: Measured  # all of them: not what the model is like, for people are shown its doubts first
    sample: Measured  # the random sample

    @property
    def answered(self) -> int:
        """Images that were answered, the disputed ones among them."""
        return self.answers.images + self.disputed


@dataclass(frozen=True, slots=True)
class CardComparison:
    """A figure of a model's card beside the same one of the random sample."""

    name: str  # of a field of `Measured`
    card: float
    measured: Share
    place: Beside  # where the card's lies beside the measured interval


def review_figures(connection: sa.Connection, query: Query) -> list[ReviewFigures]:
    """Return the figures of each model that judged reviewed images, the most reviewed first.

    A query narrows the images down by their results, whatever its limit; its time is when they were judged.
    """
    with reading(connection):
        names = dict(connection.execute(sa.select(label.c.id, label.c.name)).all())
        known = list(connection.execute(_MODELS))
        of = {row.id: row.weights_sha256 for row in known}
        kinds = [
            _Kind(of[model_id], *rest) for model_id, *rest in connection.execute(_counted(connection, query))
        ]
        skipped = [
            _Skips(of[model_id], *rest) for model_id, *rest in connection.execute(_skipped(connection, query))
        ]
    models: dict[str, Any] = {row.weights_sha256: row for row in known}
    found = [
        _figures(
            models[weights],
            [kind for kind in kinds if kind.weights == weights],
            [skip for skip in skipped if skip.weights == weights],
            names,
        )
        for weights in {kind.weights for kind in kinds} | {skip.weights for skip in skipped}
    ]
    return sorted(found, key=lambda one: (-one.answered, one.weights_sha256))


def beside_card(measured: Measured, card: Mapping[str, float]) -> list[CardComparison]:
    """Return the figures that a model's card (by name: sensitivity, specificity, accuracy) has in common."""
    return [
        CardComparison(name, card[name], found, found.place_of(card[name]))
        for name in ("sensitivity", "specificity", "accuracy")
        if name in card and isinstance(found := getattr(measured, name), Share)
    ]


class _Kind(NamedTuple):
    """How many images of a model have this answer of the model and of people."""

    weights: str
    status: int
    label_id: int | None  # the model's; of a rejected image None
    is_above: bool | None  # a rejected image's score says `positive`
    said: int | None  # what people say: a class's number, OTHER_KIND, or None: contradictions
    in_sample: int
    number: int


class _Skips(NamedTuple):
    """How many images of a model were only skipped."""

    weights: str
    in_sample: int
    number: int


def _counted(connection: sa.Connection, query: Query) -> sa.Select[Any]:
    said = truths.subquery("truth")
    own = model.alias("own")
    threshold = sa.select(own.c.threshold).where(own.c.id == result.c.model_id).scalar_subquery()
    above = sa.case((result.c.status == _REJECTED, result.c.score >= threshold))
    # Grouped by number, not by name: a hundred thousand rows are sorted.
    kind = (
        result.c.model_id,
        result.c.status,
        result.c.label_id,
        above.label("is_above"),
        said.c.said,
        said.c.in_sample,
    )
    return (
        sa.select(*kind, sa.func.count())
        .select_from(said.join(_source(query), result.c.file_id == said.c.file_id))
        .where(*row_terms(connection, query, query.since_us, query.until_us))
        .where(result.c.status != ERROR_CODE, *_latest_of_weights(connection))
        .group_by(*kind[:3], "is_above", *kind[4:])
    )


def _skipped(connection: sa.Connection, query: Query) -> sa.Select[Any]:
    skip = skips.subquery("skip")
    return (
        sa.select(result.c.model_id, skip.c.in_sample, sa.func.count())
        .select_from(skip.join(_source(query), result.c.file_id == skip.c.file_id))
        .where(*row_terms(connection, query, query.since_us, query.until_us))
        .where(result.c.status != ERROR_CODE, *_latest_of_weights(connection))
        .group_by(result.c.model_id, skip.c.in_sample)
    )


def _source(query: Query) -> sa.FromClause:
    """Return the results with what a query asks for, and no joins for nothing a hundred thousand times."""
    return JOINED if needs_join(query) else result


def _latest_of_weights(connection: sa.Connection) -> list[sa.ColumnElement[bool]]:
    """Return what leaves one result per file where the same weights ran on several engines."""
    counts = sa.select(sa.func.count(), sa.func.count(model.c.weights_sha256.distinct()))
    rows, weights = connection.execute(counts.select_from(model)).one()
    if rows == weights:
        return []
    later, same, own = result.alias("later"), model.alias("same"), model.alias("own")
    return [
        ~sa.exists()
        .select_from(
            later.join(same, same.c.id == later.c.model_id).join(
                own, own.c.weights_sha256 == same.c.weights_sha256
            )
        )
        .where(
            later.c.file_id == result.c.file_id,
            later.c.id > result.c.id,
            later.c.status != ERROR_CODE,
            own.c.id == result.c.model_id,
        )
    ]


def _figures(
    about: Any, kinds: list[_Kind], skipped: list[_Skips], names: Mapping[int, str]
) -> ReviewFigures:
    classes = tuple(json.loads(about.classes))
    # What was said of a model with other classes is no answer to this one's question.
    known = {number for number, name in names.items() if name in classes} | {OTHER_KIND, None}
    kinds = [kind for kind in kinds if kind.said in known]
    agreed = [kind for kind in kinds if kind.said is not None]
    drawn = [kind for kind in agreed if kind.in_sample]
    skipped_of_sample = sum(skip.number for skip in skipped if skip.in_sample)
    return ReviewFigures(
        model=about.name,
        model_version=about.version,
        weights_sha256=about.weights_sha256,
        classes=classes,
        positive=about.positive,
        disputed=sum(kind.number for kind in kinds if kind.said is None),
        other_kind=sum(kind.number for kind in agreed if kind.said == OTHER_KIND),
        answers=_measured(agreed, sum(skip.number for skip in skipped), names, None),
        sample=_measured(drawn, skipped_of_sample, names, about.positive),
    )


def _measured(kinds: list[_Kind], skipped: int, names: Mapping[int, str], positive: str | None) -> Measured:
    of_class = [kind for kind in kinds if kind.said != OTHER_KIND]
    rejected = [kind for kind in kinds if kind.status == _REJECTED]
    by_class = {
        names[said]: _share([kind for kind in of_class if kind.said == said], _agrees)
        for said in sorted({kind.said for kind in of_class if kind.said is not None})
    }
    sensitivity, specificity, accuracy = _rates(of_class, names, positive)
    return Measured(
        images=sum(kind.number for kind in kinds),
        skipped=skipped,
        agreement=_share(kinds, _agrees),
        by_class={name: found for name, found in by_class.items() if found is not None},
        rejected_right=_share(rejected, _agrees),
        wrongly_rejected=_share(of_class, lambda kind: kind.status == _REJECTED),
        sensitivity=sensitivity,
        specificity=specificity,
        accuracy=accuracy,
    )


def _rates(
    kinds: list[_Kind], names: Mapping[int, str], positive: str | None
) -> tuple[Share | None, Share | None, Share | None]:
    """Return sensitivity, specificity and accuracy for the class of interest, None without one."""
    if positive is None:
        return None, None, None

    def called(kind: _Kind) -> bool:
        if kind.status == _REJECTED:
            return bool(kind.is_above)
        return kind.label_id is not None and names.get(kind.label_id) == positive

    def is_positive(kind: _Kind) -> bool:
        return kind.said is not None and names.get(kind.said) == positive

    # A rejected image without a score (of schema 0001) was called nothing.
    kinds = [kind for kind in kinds if kind.status != _REJECTED or kind.is_above is not None]
    return (
        _share([kind for kind in kinds if is_positive(kind)], called),
        _share([kind for kind in kinds if not is_positive(kind)], lambda kind: not called(kind)),
        _share(kinds, lambda kind: called(kind) is is_positive(kind)),
    )


def _share(kinds: Iterable[_Kind], counts: Callable[[_Kind], bool]) -> Share | None:
    kinds = list(kinds)
    return share(sum(kind.number for kind in kinds if counts(kind)), sum(kind.number for kind in kinds))


def _agrees(kind: _Kind) -> bool:
    """Whether people said what the model said."""
    if kind.said == OTHER_KIND:
        return kind.status == _REJECTED
    return kind.status != _REJECTED and kind.label_id == kind.said


_MODELS = sa.select(
    *(model.c[name] for name in ("id", "name", "version", "weights_sha256", "classes", "positive"))
).order_by(model.c.id)
