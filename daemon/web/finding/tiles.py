"""Tiles of the overview: what came in, what was found, how sure, what waits; links to what they count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from storage.records import Status

if TYPE_CHECKING:
    from daemon.web.finding.choices import AskedWords
    from daemon.web.pages.overview import ModelCounts, Overview

_REVIEW = "/review"


class ClassLook(NamedTuple):
    """A class as the page shows it."""

    shade: str  # style class
    name: str


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a tile's bar, and a link of its own."""

    name: str
    count: int
    shade: str  # style class
    address: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One number with its words, a link to the list that it counts."""

    word: str  # names it in the style sheet
    title: str
    number: str
    told: str  # the line below the number
    address: str
    parts: tuple[Part, ...] = ()
    columns: tuple[int, ...] = ()  # of a small chart, oldest or lowest first
    columns_told: str = ""


def tiles(found: Overview, asked: AskedWords, waiting: int, looks: Mapping[str, ClassLook]) -> list[Tile]:
    """Return the tiles of an overview; the counts by class are those of the model used most."""
    by = found.by_model[0] if found.by_model else None
    tiles = [_came(found, asked)]
    if by is not None:
        tiles += [_found(by, found, asked, looks), _sure(by, found, asked)]
    tiles.append(_waits(waiting))
    return tiles


def _came(found: Overview, asked: AskedWords) -> Tile:
    images = found.totals.images if found.totals.images is not None else found.totals.judgements
    series = found.series[0].total if found.series else 0
    told = f"{series:,} series" if series else ""
    failed = found.errors
    parts = (_status(Status.ERROR, failed, "could not be judged", asked),) if failed else ()
    columns = _over_time(found)
    step = _STEPS.get(found.step_seconds, f"{found.step_seconds} s")
    return Tile(
        "came", "Came in", f"{images:,}", told or ("image" if images == 1 else "images"),
        asked.address("/results"), parts, columns, f"images per {step}, oldest first" if columns else "",
    )  # fmt: skip


_STEPS = {60: "minute", 600: "10 minutes", 3_600: "hour", 6 * 3_600: "6 hours", 86_400: "day",
          7 * 86_400: "week", 30 * 86_400: "30 days"}  # fmt: skip


def _found(by: ModelCounts, found: Overview, asked: AskedWords, looks: Mapping[str, ClassLook]) -> Tile:
    """The class that is looked for, with the others in the bar below it."""
    wanted = [label for label in by.labels if looks[label].shade == "is-found"] or by.labels[:1]
    number = sum(by.with_label(label) for label in wanted)
    judged = sum(by.with_label(label) for label in by.labels)
    parts = [
        Part(looks[label].name, by.with_label(label), looks[label].shade, _of(asked, **{"class": label}))
        for label in sorted(by.labels, key=lambda label: label not in wanted)
    ]
    rejected = by.with_status(Status.REJECTED)
    parts += [_status(Status.REJECTED, rejected, "not this kind of image", asked)] if rejected else []
    name = ", ".join(looks[label].name for label in wanted) or "nothing yet"
    told = f"{name}: {number / judged:.0%} of {judged:,} judged" if judged else name
    if len(found.by_model) > 1:
        told += f" by {by.name} {by.weights_sha256[:8]}"
    address = _of(asked, **({"class": wanted[0]} if len(wanted) == 1 else {}))
    return Tile("found", "Found", f"{number:,}", told, address, tuple(parts))


def _sure(by: ModelCounts, found: Overview, asked: AskedWords) -> Tile:
    judged = sum(by.with_label(label) for label in by.labels)
    unsure = by.with_status(Status.UNCERTAIN)
    share = f"{1 - unsure / judged:.0%}" if judged else "none"
    columns = tuple(sum(places) for places in zip(*found.histogram.values(), strict=True))
    return Tile(
        "sure", "Sure of", share, f"{unsure:,} of {judged:,} are near the threshold",
        asked.address("/results", sort="doubt"), columns=columns,
        columns_told="results by score, from 0 to 1" if columns else "",
    )  # fmt: skip


def _waits(waiting: int) -> Tile:
    """Whatever the time that is looked at: what came yesterday waits still."""
    told = "uncertain and not reviewed, of all times" if waiting else "every uncertain result is reviewed"
    return Tile("waits", "Waits for you", f"{waiting:,}", told, _REVIEW)


def _status(status: Status, number: int, name: str, asked: AskedWords) -> Part:
    return Part(name, number, f"is-{status.value}", _of(asked, status=status.value))


def _of(asked: AskedWords, **changed: str) -> str:
    return asked.address("/results", **changed)


def _over_time(found: Overview) -> tuple[int, ...]:
    """Return how many came in each step, from the first to the last."""
    if not found.bars:
        return ()
    step_us = found.step_seconds * 1_000_000
    first = min(bar.start_us for bar in found.bars)
    sums: dict[int, int] = {}
    for bar in found.bars:
        place = (bar.start_us - first) // step_us
        sums[place] = sums.get(place, 0) + bar.count
    return tuple(sums.get(place, 0) for place in range(max(sums) + 1))
