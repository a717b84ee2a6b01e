"""Render an image's history: to a person as text, to a program as a dict."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from config.store_url import is_store_url
from config.text import printable, printable_name
from daemon.output.cells import clock_time, confidence_text, size_text
from daemon.output.columns import Column, Kind
from daemon.output.facts import Style, pairs
from daemon.output.json_text import json_name, json_object
from daemon.output.result_columns import COLUMNS, model_name
from daemon.output.review_columns import REVIEWS
from daemon.output.review_words import said, shown
from daemon.output.words import STATUS_COLOURS, rests_on, score_of

if TYPE_CHECKING:
    from storage.queries.history import Attempt, Story, VersionStory
    from storage.queries.results import ResultRow
    from storage.queries.series_rows import SeriesRow
    from storage.reviews.answers import StoredReview

_RESULT = ("time", "class", "confidence", "status", "reason", "model", "weights_sha256", "engine",
           "precision", "device", "sha256", "slice_index", "slice_count", "tags", "duration_us", "score",
           "threshold", "positive", "uncertain_low", "uncertain_high")  # fmt: skip
_ATTEMPT = (
    Column("time", Kind.TIME, lambda attempt: attempt.at_us),
    Column("kind", Kind.TEXT, lambda attempt: attempt.kind.value),
    Column("reason", Kind.TEXT, lambda attempt: attempt.reason),
    Column("model", Kind.TEXT, lambda attempt: attempt.model),
)
_VERSION = (
    Column("id", Kind.INTEGER, lambda version: version.id),
    Column("state", Kind.TEXT, lambda version: version.state.name.lower()),
    Column("size", Kind.INTEGER, lambda version: version.size),
    Column("modified", Kind.TIME, lambda version: version.mtime_ns // 1000),
    Column("inode", Kind.INTEGER, lambda version: version.inode),
    Column("first_seen", Kind.TIME, lambda version: version.first_seen_us),
    Column("next_try", Kind.TIME, lambda version: version.not_before_us),
    Column("moved_to", Kind.NAME, lambda version: version.moved_to),
)

_REVIEW = (
    Column("id", Kind.INTEGER, lambda one: one.file_id),
    *(REVIEWS[name] for name in ("time", "said", "network", "agrees", "reviewer", "why", "note", "answer",
                                 "class", "weights_sha256", "request")),
    Column("withdrawn", Kind.TIME, lambda one: one.withdrawn_us),
)  # fmt: skip


def story_as_dict(story: Story, zone: tzinfo) -> dict[str, Any]:
    """Return the story as what becomes its JSON object."""
    return {
        **json_name("file", os.path.join(story.inbox, story.path)),
        **json_name("inbox", story.inbox),
        **json_name("path", story.path),
        "versions": [_version_as_dict(version, zone) for version in story.versions],
    }


def story_as_text(story: Story, zone: tzinfo, style: Style) -> str:
    """Return the story for a person: newest version first."""
    heading = style(printable_name(os.path.join(story.inbox, story.path)), bold=True)
    return "\n\n".join([heading, *(_version_as_text(version, zone, style) for version in story.versions)])


def series_as_text(part_of: Sequence[SeriesRow], zone: tzinfo, style: Style) -> str:
    """Return what is concluded about the series that an image is part of, below its story; "" of none."""
    return "".join(
        f"\n\nits series\n{pairs(_series_facts(row, zone, style), style, indent='  ')}" for row in part_of
    )


def reviews_as_dicts(reviews: Sequence[StoredReview], zone: tzinfo) -> list[dict[str, Any]]:
    """Return what people said of an image as what becomes JSON, withdrawn answers too."""
    return [json_object(one, _REVIEW, zone) for one in reviews]


def reviews_as_text(reviews: Sequence[StoredReview], zone: tzinfo, style: Style) -> str:
    """Return what people said of an image, below its story, oldest first; "" if nobody did."""
    if not reviews:
        return ""
    facts = [(clock_time(one.at_us, zone), _review_text(one, style)) for one in reviews]
    return f"\n\nwhat people said\n{pairs(facts, style, indent='  ')}"


def _review_text(one: StoredReview, style: Style) -> str:
    words = style(printable(said(one)), bold=one.stands)
    parts = [f"{words} by {printable(one.reviewer)}"]
    parts += [f"the network had said {printable(shown(one) or 'nothing')}"]
    parts += ["withdrawn"] if not one.stands else []
    return ", ".join(parts) + "".join(f"\n{printable(line)}" for line in one.note.splitlines())


def _series_facts(row: SeriesRow, zone: tzinfo, style: Style) -> list[tuple[str, str]]:
    return [
        ("series", printable(row.name)),
        ("study", printable(row.study or "")),
        ("patient", printable(row.patient or "")),
        ("result", _conclusion(row, style)),
        ("score", _score_text(row) if row.label is not None else ""),
        ("rests on", rests_on(row)),
        ("touched", clock_time(row.touched_us, zone)),
        ("by", printable(model_name(row))),
    ]


def _version_as_dict(version: VersionStory, zone: tzinfo) -> dict[str, Any]:
    columns = [COLUMNS[name] for name in _RESULT]
    return {
        **json_object(version, _VERSION, zone),
        "results": [json_object(result, columns, zone) for result in version.results],
        "attempts": [json_object(attempt, _ATTEMPT, zone) for attempt in version.attempts],
    }


def _version_as_text(version: VersionStory, zone: tzinfo, style: Style) -> str:
    return f"version {version.id}\n{pairs(version_facts(version, zone, style), style, indent='  ')}"


def version_facts(version: VersionStory, zone: tzinfo, style: Style) -> list[tuple[str, str]]:
    """Return what is told of a version, as names and values; a value may be empty."""
    state = version.state.name.lower()
    sha256 = next((result.sha256 for result in version.results if result.sha256), None)
    return [
        ("state", state),
        ("first seen", clock_time(version.first_seen_us, zone)),
        ("next try", "" if version.not_before_us is None else clock_time(version.not_before_us, zone)),
        ("modified", clock_time(version.mtime_ns // 1000, zone)),
        ("size", f"{size_text(version.size)} ({_identifier(version)})"),
        ("sha256", "" if sha256 is None else sha256.hex()),
        ("moved to", "" if version.moved_to is None else printable_name(version.moved_to)),
        *(fact for result in version.results for fact in _result_facts(result, zone, style)),
        *(("failed", _attempt_text(attempt, zone)) for attempt in version.attempts),
    ]


def _identifier(version: VersionStory) -> str:
    """Return what tells a version from others of its size and time, with the word for it."""
    stored = any(is_store_url(result.inbox) for result in version.results)
    return f"hash of its ETag {version.inode}" if stored else f"inode {version.inode}"


def _result_facts(result: ResultRow, zone: tzinfo, style: Style) -> list[tuple[str, str]]:
    judged_by = f"{printable(model_name(result))}, {result.engine} {result.precision} on {result.device}"
    return [
        ("result", _conclusion(result, style)),
        ("score", _score_text(result)),
        ("confidence", _confidence_text(result)),
        ("why", printable(result.reason or "")),
        ("judged", f"{clock_time(result.completed_us, zone)} in {result.duration_us / 1000:.1f} ms"),
        ("by", judged_by),
        ("slice", _slice_text(result)),
        *((printable(name), printable(value)) for name, value in (result.tags or {}).items()),
    ]


def _conclusion(result: ResultRow | SeriesRow, style: Style) -> str:
    status = style(result.status.value, STATUS_COLOURS[result.status.value])
    return status if result.label is None else f"{style(printable(result.label), bold=True)} ({status})"


def _score_text(result: ResultRow | SeriesRow) -> str:
    """Return the score, and what it is and is compared with."""
    if result.score is None:
        return ""
    words = score_of(result)
    return confidence_text(result.score) + (f": {words}" if words else "")


def _confidence_text(result: ResultRow) -> str:
    """Return the confidence of a row whose score nobody knows: of schema 0001, its model not used since."""
    if result.score is not None or result.confidence is None:
        return ""
    return f"{confidence_text(result.confidence)}: calibrated probability of the class that was given"


def _slice_text(result: ResultRow) -> str:
    if result.slice_index is None:
        return ""
    return f"{result.slice_index + 1} of {result.slice_count} decided"


def _attempt_text(attempt: Attempt, zone: tzinfo) -> str:
    return f"{clock_time(attempt.at_us, zone)}  {printable(attempt.reason)} ({attempt.kind.value})"
