"""Choices of the results page as links: facets, columns to sort by, times and layouts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from config.text import printable, printable_name
from storage.query import Query, Sort

if TYPE_CHECKING:
    from storage.queries.facets import Facet, Facets

RESULTS = "/results"
TIMES = (("1h ago", "last hour"), ("today", "today"), ("yesterday", "since yesterday"), ("7d", "7 days"),
         ("30d", "30 days"), ("", "ever"))  # fmt: skip
SIZES = ("25", "50", "100", "200")
_REVIEWS = {
    "none": "not reviewed", "reviewed": "reviewed", "agreed": "agreed with", "corrected": "corrected",
    "other-kind": "not this kind", "disputed": "disputed",
}  # fmt: skip


class AskedWords(Protocol):
    """What is asked for, and the addresses of other questions."""

    @property
    def query(self) -> Query: ...  # noqa: D102
    @property
    def words(self) -> Mapping[str, str]: ...  # noqa: D102
    def address(self, path: str, **changed: str) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class FacetLink:
    """One link that narrows, or, where it is chosen already, widens again."""

    name: str
    count: int | None
    address: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class FacetGroup:
    """The choices of one facet."""

    title: str
    choices: tuple[FacetLink, ...]
    word: str  # of the address

    @property
    def chosen(self) -> str:
        """The name of what is chosen, "" without."""
        return next((one.name for one in self.choices if one.is_chosen), "")


@dataclass(frozen=True, slots=True)
class Heading:
    """A column's header as a link that sorts by it."""

    title: str
    name: str  # of the column, as style sheet and scripts know it
    address: str  # "" for a column that nothing is sorted by
    aria_sort: str  # ascending, descending or ""


def groups(found: Facets, asked: AskedWords, inbox_words: Mapping[bytes, str]) -> list[FacetGroup]:
    """Return the facets that leave a choice, or in which something is chosen."""
    listed = [
        _group("Status", "status", found.statuses, asked),
        _group("Class", "class", found.labels, asked),
        _group("Review", "review", found.reviews or (), asked),
        _group("Model", "model", found.models, asked),
        _group("Inbox", "inbox", found.inboxes, asked, inbox_words),
        _group("Series", "series", found.series or (), asked),
    ]
    return [
        one for one in listed if one.choices and (one.word != "inbox" or len(one.choices) > 1 or one.chosen)
    ]


def headings(asked: AskedWords) -> list[Heading]:
    """Return the columns of the table, the first without a name for pictures."""
    columns = (
        ("time", "time", Sort.TIME, False), ("file", "file", Sort.FILE, True),
        ("class", "class", Sort.CLASS, True), ("score", "score", Sort.SCORE, False),
        ("doubt", "nearness to the threshold", Sort.DOUBT, True), ("status", "status", Sort.STATUS, True),
    )  # fmt: skip
    return [_heading(asked, *column) for column in columns]


def times(asked: AskedWords) -> list[FacetLink]:
    """Return the quick choices of time."""
    now = asked.words.get("since", "")
    only = not asked.words.get("until")
    return [
        FacetLink(words, None, asked.address(RESULTS, since=word, until=""), only and now == word)
        for word, words in TIMES
    ]


def _group(
    title: str, word: str, found: Iterable[Facet], asked: AskedWords, words: Mapping[bytes, str] | None = None
) -> FacetGroup:
    now = asked.words.get(word, "")
    choices = [_choice(word, one, now, asked, words or {}) for one in found]
    if now and not any(one.is_chosen for one in choices):
        # What was asked for is shown though nothing has it: it can be taken back.
        choices.insert(0, FacetLink(printable(now), 0, asked.address(RESULTS, **{word: ""}), is_chosen=True))
    return FacetGroup(title, tuple(choices), word)


def _choice(word: str, one: Facet, now: str, asked: AskedWords, words: Mapping[bytes, str]) -> FacetLink:
    value = words[one.word] if isinstance(one.word, bytes) else str(one.word)
    is_chosen = bool(now) and (value == now or (word == "model" and value.startswith(now)))
    name = printable_name(one.word) if isinstance(one.word, bytes) else printable(one.name)
    name = _REVIEWS.get(name, name) if word == "review" else name
    address = asked.address(RESULTS, **{word: "" if is_chosen else value})
    return FacetLink(name, one.count, address, is_chosen)


def _heading(asked: AskedWords, name: str, title: str, sort: Sort, rises: bool) -> Heading:
    """Return a header whose link turns the order round where it is the order already."""
    query = asked.query
    is_now = query.sort is sort
    reverse = is_now and not query.reverse
    address = asked.address(
        RESULTS, sort="" if sort is Sort.TIME else sort.value, order="reverse" if reverse else ""
    )
    # `rises`: whether the order that is not reversed goes from small to large.
    direction = "ascending" if rises is not query.reverse else "descending"
    return Heading(title, name, address, direction if is_now else "")
