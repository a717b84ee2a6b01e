"""Turn the options of `bt-daemon results` into a query."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from config.errors import UsageError
from config.text import printable
from config.when import local_zone, microseconds, parse_when
from storage.query import Grouping, Query, ReviewFilter, Sort
from storage.records import Status

FORMATS = ("table", "json", "jsonl", "csv", "tsv", "parquet")
_FORMAT_OF_SUFFIX = {f".{form}": form for form in FORMATS[1:]} | {
    ".ndjson": "jsonl",
    ".txt": "table",
    "": "table",
}
ENDLESS = ("table", "jsonl", "csv", "tsv")  # what can be followed


@dataclass(frozen=True, slots=True)
class Options:
    """The options as they were typed."""

    since: str | None
    until: str | None
    labels: tuple[str, ...]
    min_confidence: float | None
    statuses: tuple[str, ...]
    text: str
    model: str | None
    utc: bool
    limit: int | None = None
    sort: str = "time"
    reverse: bool = False
    columns: str | None = None
    form: str | None = "table"
    output: Path | None = None
    count: bool = False
    summary: bool = False
    follow: bool = False
    min_score: float | None = None
    max_score: float | None = None
    by: str = Grouping.IMAGE.value
    review: str | None = None


@dataclass(frozen=True, slots=True)
class ResultRequest:
    """The options, understood."""

    query: Query
    zone: tzinfo
    form: str
    output: Path | None  # None: stdout
    columns: str | None
    by: Grouping = Grouping.IMAGE


def understood(options: Options, now: datetime) -> ResultRequest:
    """Return what is asked for at the aware time `now`; raise UsageError for what cannot be meant."""
    _refuse_contradictions(options)
    zone = UTC if options.utc else local_zone()
    return ResultRequest(
        query=_query(options, now, zone),
        zone=zone,
        form=_format(options),
        output=None if options.output is None or str(options.output) == "-" else options.output,
        columns=options.columns,
        by=Grouping(options.by),
    )


def _query(options: Options, now: datetime, zone: tzinfo) -> Query:
    since_us, until_us = (
        None if text is None else microseconds(parse_when(text, now, zone))
        for text in (options.since, options.until)
    )
    if since_us is not None and until_us is not None and since_us >= until_us:
        raise UsageError("--since is not before --until, so that no time lies between them")
    return Query(
        since_us=since_us,
        until_us=until_us,
        labels=options.labels,
        statuses=_statuses(options.statuses),
        min_confidence=options.min_confidence,
        min_score=options.min_score,
        max_score=options.max_score,
        text=options.text,
        model=options.model,
        review=None if options.review is None else ReviewFilter(options.review),
        sort=Sort(options.sort),
        reverse=options.reverse,
        limit=options.limit,
    )


def _statuses(words: Sequence[str]) -> tuple[Status, ...]:
    return () if "all" in words else tuple(Status(word) for word in dict.fromkeys(words))


def _format(options: Options) -> str:
    """Return the format: as said, else as the output file is called, else a table."""
    if options.form is not None:
        return options.form
    suffix = "" if options.output is None else options.output.suffix.lower()
    if suffix not in _FORMAT_OF_SUFFIX:
        raise UsageError(
            f"no results can be written as {printable(suffix)}",
            hint=f"name the file .{', .'.join(FORMATS[1:])} or .txt, or choose with --format",
        )
    return _FORMAT_OF_SUFFIX[suffix]


def _refuse_contradictions(options: Options) -> None:
    for name in ("min_confidence", "min_score", "max_score"):
        value = getattr(options, name)
        if value is not None and math.isnan(value):
            raise UsageError(f"--{name.replace('_', '-')} nan is not a number between 0 and 1")
    chosen = [name for name in ("count", "summary", "follow") if getattr(options, name)]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} exclude each other")
    if options.follow and options.by != Grouping.IMAGE:
        raise UsageError(
            f"--follow shows images as they come, a {options.by} changes with each of its slices",
            hint=f"leave out --by, or ask again: watch -n 10 bt-daemon results --by {options.by}",
        )
    if options.review is not None and options.by != Grouping.IMAGE:
        raise UsageError("--review is about images", hint=f"leave out --by {options.by}")
    if options.follow and (options.form or "table") not in ENDLESS:
        raise UsageError(
            f"--follow never ends, --format {options.form} needs an end",
            hint=f"choose from {', '.join(ENDLESS)}",
        )
    if options.follow and options.output is not None:
        raise UsageError("--follow never ends, a file given with -o would never appear", hint="use > FILE")
    if options.follow and (options.reverse or options.sort != Sort.TIME):
        raise UsageError(
            "--follow shows results in the order in which they come", hint="leave out --sort and --reverse"
        )
