"""Sum up what people said of the models' answers, beside the models' cards: for a terminal and for pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from config.text import printable
from daemon.output.columns import Column, Kind
from daemon.output.result_columns import SHORT_HASH
from storage.query import Query

if TYPE_CHECKING:
    import sqlalchemy as sa

    from storage.reviews.review_figures import Measured, ReviewFigures
    from storage.reviews.shares import Share

SAMPLE, ANSWERS = "random sample", "all answers"
# With fewer images an interval is too wide to say anything.
_FEWEST = 30

# A model's figures on its validation images by the weights' sha256, {} for one that is not at hand.
CardOf = Callable[[str], Mapping[str, float]]

_FIGURES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "accuracy": "accuracy",
    "agreement": "agreement",
    "wrongly_rejected": "wrongly rejected",
    "rejected_right": "rightly rejected",
}
_ON_CARD = ("sensitivity", "specificity", "accuracy")


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """One figure of one model, as a row of a table."""

    model: str
    weights_sha256: str
    images: str  # SAMPLE or ANSWERS
    figure: str
    share: Share
    card: float | None  # the same figure of the model's card

    @property
    def differs(self) -> str | None:
        """Lower or higher than the card says, beyond chance; None if neither, or the card is silent."""
        if self.card is None:
            return None
        # `place_of` tells where the card lies, this where the sample does.
        return {"above": "lower", "below": "higher"}.get(self.share.place_of(self.card).value)

    @property
    def value(self) -> float:
        """The share, 0..1."""
        return self.share.value

    @property
    def low(self) -> float:
        """The lower end of its 95 % interval."""
        return self.share.low

    @property
    def high(self) -> float:
        """The upper end."""
        return self.share.high

    @property
    def words(self) -> str:
        """The share for people: 87 % (68 to 95), 26 of 30."""
        low, high = (f"{100 * end:.0f}" for end in (self.low, self.high))
        return f"{100 * self.value:.0f} % ({low} to {high}), {self.share.k:,} of {self.share.n:,}"

    @property
    def colour(self) -> str:
        """The colour at a terminal: red where the model is worse than its card says."""
        return {"lower": "red", "higher": "green", None: "default"}[self.differs]


@dataclass(frozen=True, slots=True)
class ModelReviews:
    """What people said of one model."""

    figures: ReviewFigures
    rows: tuple[ReviewRow, ...]

    @property
    def model(self) -> str:
        """The model with the hash that tells it from all others, safe to show."""
        return _model(self.figures)

    @property
    def sample(self) -> tuple[ReviewRow, ...]:
        """The figures of the random sample."""
        return tuple(row for row in self.rows if row.images == SAMPLE)

    @property
    def compared(self) -> tuple[ReviewRow, ...]:
        """Those of them that a model's card has."""
        return tuple(row for row in self.sample if row.figure in _ON_CARD)

    @property
    def agreement(self) -> str:
        """How often people agree, of all answers, in words; "" if nobody answered."""
        found = [row for row in self.rows if row.images == ANSWERS and row.figure == "agreement"]
        return found[0].words if found else ""

    @property
    def is_worse(self) -> bool:
        """Whether the random sample contradicts the card to the worse, with enough images to say so."""
        is_enough = self.figures.sample.images >= _FEWEST
        return is_enough and any(row.differs == "lower" for row in self.sample)

    @property
    def counts(self) -> str:
        """How many images were reviewed, in words."""
        found = self.figures
        parts = [f"{found.answered:,} image{'' if found.answered == 1 else 's'} answered"]
        for number, words in (
            (found.disputed, "disputed"),
            (found.other_kind, "of another kind"),
            (found.answers.skipped, "skipped"),
        ):
            parts += [f"{number:,} {words}"] if number else []
        return ", ".join(parts)

    @property
    def caveat(self) -> str:
        """What is to be said of the sample before anything is read from it."""
        drawn = self.figures.sample.images
        if not drawn:
            return "no random sample yet, so nothing is known of sensitivity and specificity here"
        if drawn < _FEWEST:
            images = f"{drawn} image{'' if drawn == 1 else 's'}"
            return f"the random sample has {images} only: too few to conclude from"
        if self.is_worse:
            lower = [row.figure for row in self.sample if row.differs == "lower"]
            return f"lower than the model's card says, beyond chance: {', '.join(lower)}"
        return ""


@dataclass(frozen=True, slots=True)
class ReviewSummary:
    """What people said of all models."""

    models: tuple[ModelReviews, ...]

    @property
    def lines(self) -> list[str]:
        """A line for each model, for people."""
        return [line for one in self.models for line in _lines(one)]


def review_summary(connection: sa.Connection | None, query: Query, card_of: CardOf) -> ReviewSummary:
    """Return what people said of the models behind a query's results, most reviewed first."""
    from storage.reviews.review_figures import review_figures

    if connection is None:
        return ReviewSummary(())
    found = review_figures(connection, replace(query, limit=None, review=None, after=None))
    return ReviewSummary(tuple(ModelReviews(one, tuple(_rows(one, card_of))) for one in found))


def _rows(found: ReviewFigures, card_of: CardOf) -> Iterator[ReviewRow]:
    card = card_of(found.weights_sha256)
    yield from _measured(found, SAMPLE, found.sample, card)
    # Of all answers sensitivity and specificity would be those of the doubtful images.
    yield from _measured(found, ANSWERS, found.answers, {})


def _measured(
    found: ReviewFigures, images: str, measured: Measured, card: Mapping[str, float]
) -> Iterator[ReviewRow]:
    for name, words in _FIGURES.items():
        share: Share | None = getattr(measured, name)
        if share is not None:
            yield ReviewRow(_model(found), found.weights_sha256, images, words, share, card.get(name))


def _lines(one: ModelReviews) -> Iterator[str]:
    yield f"{one.model}: {one.counts}" + (f"; people agree with {one.agreement}" if one.agreement else "")
    if one.compared:
        words = "; ".join(f"{row.figure} {row.words}" for row in one.compared)
        yield f"  random sample: {words}"
    if one.caveat:
        yield f"  {one.caveat}"


def _model(found: ReviewFigures) -> str:
    return printable(f"{found.model} {found.model_version} {found.weights_sha256[:SHORT_HASH]}")


FIGURES: dict[str, Column] = {
    column.name: column
    for column in (
        Column("model", Kind.TEXT, lambda row: row.model),
        Column("images", Kind.TEXT, lambda row: row.images),
        Column("figure", Kind.TEXT, lambda row: row.figure),
        Column("value", Kind.CONFIDENCE, lambda row: row.share.value),
        Column("low", Kind.CONFIDENCE, lambda row: row.share.low),
        Column("high", Kind.CONFIDENCE, lambda row: row.share.high),
        Column("count", Kind.INTEGER, lambda row: row.share.k),
        Column("of", Kind.INTEGER, lambda row: row.share.n),
        Column("card", Kind.CONFIDENCE, lambda row: row.card),
        Column("differs", Kind.TEXT, lambda row: row.differs),
        Column("weights_sha256", Kind.TEXT, lambda row: row.weights_sha256),
    )
}
FIGURES_SHOWN = tuple(FIGURES)[:-1]
