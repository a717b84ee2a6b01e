"""Query series: their verdicts, and those of studies and patients, filtered, sorted, paged and counted.

A study's or patient's answer is that of its series with the highest score; a series of which no study or
patient is known stands for itself. Filters of class, status and score are about that answer, those of time
about when the last slice was judged.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage.database import reading
from storage.portable_sql import by_bytes, has_bytes, hexadecimal, json_number, lowered, total
from storage.queries.results import is_model
from storage.queries.totals import ModelSummaryRow
from storage.query import Grouping, Query, Sort
from storage.records import Status
from storage.schema import (
    STATUS_CODES,
    STATUS_OF_CODE,
    FileState,
    SeriesOrigin,
    file,
    folder,
    inbox,
    label,
    model,
    result,
    series,
    series_verdict,
)

_SHOWN_DIGITS = 12  # of a pseudonym, where there is no name
_REJECTED = STATUS_CODES[Status.REJECTED]


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """What is concluded about one series, study or patient under one model."""

    grouping: Grouping
    id: int  # of the series; of a study or patient: of its series that decides
    inbox: bytes  # absolute path
    name: str  # in the clear where it is, else the first digits of the pseudonym
    study: str | None  # likewise; None: not known
    patient: str | None
    status: Status
    label: str | None  # None: all slices are rejected
    confidence: float | None
    score: float | None
    slices: int  # that have a vote; of all its series
    rejected: int  # slices that have none
    files: int
    series: int  # how many
    first_us: int  # when the first slice was judged
    touched_us: int  # when the last one was
    decisive_file_id: int | None  # the file version that says it loudest
    decisive_path: bytes | None  # its path below the inbox
    model: str
    model_version: str
    weights_sha256: str
    positive: str | None  # the class that the score is the probability of
    threshold: float | None  # score from which the label is `positive`
    uncertain_low: float | None
    uncertain_high: float | None

    def is_complete(self, now_us: int, quiet_us: int) -> bool:
        """Whether nothing has come for so long that nothing more is expected."""
        return self.touched_us + quiet_us <= now_us


@dataclass(frozen=True, slots=True)
class SliceRow:
    """One file of a series, as one model judged it."""

    file_id: int
    path: bytes  # below its inbox
    inbox: bytes
    moved_to: bytes | None
    position: float | None  # along the series, in mm or by number
    status: Status
    label: str | None
    confidence: float | None
    score: float | None
    slice_index: int | None  # of a volume: the slice that speaks loudest
    slice_count: int | None
    sha256: bytes | None
    completed_us: int


def series_rows(
    connection: sa.Connection, grouping: Grouping, query: Query, offset: int = 0
) -> Iterator[SeriesRow]:
    """Yield series, studies or patients, the last touched first unless the query sorts otherwise.

    Of a query `after` and `after_result_id` are not looked at: pages are asked for by `offset`.
    """
    source, columns = _source(grouping)
    down = (query.sort in (Sort.TIME, Sort.CONFIDENCE, Sort.SCORE, Sort.ID)) is not query.reverse
    # The page is chosen before its names are fetched: SQLite then leaves out the joins that decide nothing,
    # and sorts narrow rows.
    chosen = (
        sa.select(*columns, _sort_columns(columns)[query.sort].label("rank"))
        .select_from(_joined(source, columns))
        .where(*_terms(columns, query))
        .order_by(*_order(sa.literal_column("rank"), columns, down=down))
        .limit(query.limit)
        .offset(offset)
        .subquery("chosen")
    )
    statement = (
        sa.select(*_shown(chosen.c))
        .select_from(_joined(chosen, chosen.c))
        .order_by(*_order(chosen.c.rank, chosen.c, down=down))
    )
    with reading(connection):
        for row in connection.execute(statement):
            yield _series_row(grouping, row)


def series_summary(connection: sa.Connection, grouping: Grouping, query: Query) -> list[ModelSummaryRow]:
    """Return how many there are by model, class and status, most frequent first, whatever the limit."""
    source, columns = _source(grouping)
    kind = (columns.model_id, columns.label_id, columns.status)
    # Few joins: thirty thousand names would be fetched to be counted.
    read = _joined(source, columns) if _needs_join(query) else source
    counted = (
        sa.select(*kind, sa.func.count().label("number"))
        .select_from(read)
        .where(*_terms(columns, query))
        .group_by(*kind)
        .subquery("counted")
    )
    named = (model.c.name, model.c.version, model.c.weights_sha256, label.c.name, counted.c.status)
    statement = (
        sa.select(*named, total(counted.c.number))
        .select_from(
            counted.join(model, model.c.id == counted.c.model_id).outerjoin(
                label, label.c.id == counted.c.label_id
            )
        )
        .group_by(*named)
    )
    with reading(connection):
        found = [
            ModelSummaryRow(name, version, weights, called, STATUS_OF_CODE[status], number)
            for name, version, weights, called, status, number in connection.execute(statement)
        ]
    return sorted(found, key=lambda row: (-row.count, row.status, row.label or ""))


def series_count(connection: sa.Connection, grouping: Grouping, query: Query) -> int:
    """Return how many series, studies or patients there are, one for each model, whatever the limit."""
    return sum(row.count for row in series_summary(connection, grouping, query))


def slices_of(connection: sa.Connection, series_id: int, weights_sha256: str | None = None) -> list[SliceRow]:
    """Return the files of a series in their order, as judged by one model or (None) by all."""
    terms = [result.c.series_id == series_id, file.c.state != int(FileState.SUPERSEDED)]
    if weights_sha256 is not None:
        terms.append(model.c.weights_sha256 == weights_sha256)
    statement = (
        sa.select(*_SLICE)
        .select_from(_SLICES)
        .where(*terms)
        .order_by(result.c.position.nulls_first(), folder.c.path, file.c.name)
    )
    with reading(connection):
        return [_slice_row(row) for row in connection.execute(statement)]


def _slice_row(row: Any) -> SliceRow:
    path = os.path.join(row.folder_path, row.file_name)
    place = (row.inbox_path, row.moved_to, row.position)
    judged = (STATUS_OF_CODE[row.status], row.label_name, row.confidence, row.score)
    rest = (row.slice_index, row.slice_count, row.sha256, row.completed_us)
    return SliceRow(row.file_id, path, *place, *judged, *rest)


def _source(grouping: Grouping) -> tuple[sa.FromClause, Any]:
    """Return the verdicts of a grouping, and their columns: for a study or patient its deciding series'."""
    if grouping in (Grouping.IMAGE, Grouping.SERIES):
        own = [series_verdict.c[name] for name in _OWN]
        source = (
            sa.select(*own, sa.literal(1).label("series")).select_from(series_verdict).subquery("verdict")
        )
    else:
        ranked = _ranked(sa.func.coalesce(series.c[f"{grouping.value}_key"], series.c.series_key))
        source = sa.select(ranked).where(ranked.c.place == 1).subquery("verdict")
    return source, source.c


def _ranked(key: sa.ColumnElement[Any]) -> sa.Subquery:
    """Return the verdicts with their place among those of the same key, and what those are together."""
    within: Any = {"partition_by": [key, series_verdict.c.model_id]}
    decides = [
        sa.case((series_verdict.c.status == _REJECTED, 1), else_=0),
        series_verdict.c.score.desc().nulls_last(),
        series_verdict.c.series_id,
    ]
    together = {
        **{name: sa.func.sum(series_verdict.c[name]) for name in _SUMMED},
        "first_us": sa.func.min(series_verdict.c.first_us),
        "touched_us": sa.func.max(series_verdict.c.touched_us),
        "series": sa.func.count(),
    }
    return (
        sa.select(
            *(series_verdict.c[name] for name in _OWN if name not in together),
            *(function.over(**within).label(name) for name, function in together.items()),
            sa.func.row_number().over(**within, order_by=decides).label("place"),
        )
        .select_from(series_verdict.join(series))
        .subquery("ranked")
    )


def _joined(source: sa.FromClause, columns: Any) -> sa.FromClause:
    # Outer joins, so that SQLite walks the verdicts in their order: see storage.queries.results.
    return (
        source.outerjoin(series, series.c.id == columns.series_id)
        .outerjoin(inbox, inbox.c.id == series.c.inbox_id)
        .outerjoin(model, model.c.id == columns.model_id)
        .outerjoin(label, label.c.id == columns.label_id)
        .outerjoin(file, file.c.id == columns.loudest_file_id)
        .outerjoin(folder, folder.c.id == file.c.folder_id)
    )


def _terms(columns: Any, query: Query) -> list[sa.ColumnElement[bool]]:
    terms: list[sa.ColumnElement[bool]] = []
    for column, least, most in (
        (columns.confidence, query.min_confidence, query.max_confidence),
        (columns.score, query.min_score, query.max_score),
    ):
        terms += [] if least is None else [column >= least]
        terms += [] if most is None else [column <= most]
    if query.since_us is not None:
        terms.append(columns.touched_us >= query.since_us)
    if query.until_us is not None:
        terms.append(columns.touched_us < query.until_us)
    if query.labels:
        terms.append(columns.label_id.in_(sa.select(label.c.id).where(label.c.name.in_(query.labels))))
    if query.statuses:
        terms.append(columns.status.in_([STATUS_CODES[word] for word in query.statuses]))
    if query.model is not None:
        terms.append(columns.model_id.in_(sa.select(model.c.id).where(is_model(query.model))))
    if query.inbox is not None:
        terms.append(sa.func.coalesce(inbox.c.path, b"") == query.inbox)
    if query.text:
        terms.append(_contains(query.text))
    if query.series_id is not None:
        terms.append(columns.series_id == query.series_id)
    if query.file_id is not None:
        terms.append(
            columns.series_id.in_(sa.select(result.c.series_id).where(result.c.file_id == query.file_id))
        )
    for name, of in (("study_key", query.study_of), ("patient_key", query.patient_of)):
        if of is not None:
            same = series.alias("same")
            terms.append(series.c[name] == sa.select(same.c[name]).where(same.c.id == of).scalar_subquery())
    return terms


def _needs_join(query: Query) -> bool:
    return bool(query.text) or any(one is not None for one in (query.inbox, query.study_of, query.patient_of))


def _contains(text: str) -> sa.ColumnElement[bool]:
    """Search names, pseudonyms and the path of the loudest slice, as bytes: a name need not be text."""
    wanted = os.fsencode(text).lower()
    names = [series.c.name, series.c.study_name, series.c.patient_name]
    keys = [hexadecimal(series.c[name]) for name in ("series_key", "study_key", "patient_key")]
    searched = [sa.func.coalesce(part, "") for part in (*names, *keys)]
    return sa.or_(*(has_bytes(lowered(part), wanted) for part in (*searched, _PATH)))


def _shown(columns: Any) -> list[sa.ColumnElement[Any]]:
    return [
        columns.series_id,
        inbox.c.path.label("inbox_path"),
        *(series.c[name] for name in ("name", "study_name", "patient_name", "origin")),
        *(series.c[name] for name in ("series_key", "study_key", "patient_key")),
        columns.status,
        label.c.name.label("label_name"),
        *(columns[name] for name in ("confidence", "score", "slices", "rejected", "files", "series")),
        *(columns[name] for name in ("first_us", "touched_us", "loudest_file_id")),
        folder.c.path.label("folder_path"),
        file.c.name.label("file_name"),
        model.c.name.label("model_name"),
        model.c.version.label("model_version"),
        model.c.weights_sha256,
        *(model.c[name] for name in ("positive", "threshold", "uncertain_low", "uncertain_high")),
        model.c.series_rule,
    ]


def _series_row(grouping: Grouping, row: Any) -> SeriesRow:
    path = None if row.file_name is None else os.path.join(row.folder_path, row.file_name)
    own_name = row.name or (os.fsdecode(path) if path and row.origin == SeriesOrigin.FILE else None)
    names = (
        _named(own_name, row.series_key) or "",
        _named(row.study_name, row.study_key),
        _named(row.patient_name, row.patient_key),
    )
    judged = (STATUS_OF_CODE[row.status], row.label_name, row.confidence, row.score)
    counts = (row.slices, row.rejected, row.files, row.series, row.first_us, row.touched_us)
    by = (row.model_name, row.model_version, row.weights_sha256)
    stored = (row.positive, row.threshold, row.uncertain_low, row.uncertain_high)
    compared = _compared(row.series_rule) or stored
    decisive = (row.loudest_file_id, path)
    return SeriesRow(
        grouping, row.series_id, row.inbox_path, *names, *judged, *counts, *decisive, *by, *compared
    )


def _named(name: str | None, key: bytes | None) -> str | None:
    return name or (None if key is None else key.hex()[:_SHOWN_DIGITS])


@functools.lru_cache(maxsize=64)
def _compared(rule: str | None) -> tuple[str | None, float | None, float | None, float | None] | None:
    """Return what a series' score is compared with, of the rule that is stored with its model."""
    with suppress(ValueError, KeyError, TypeError):
        told = json.loads(rule or "")
        about = told["series"] or told["decision"]
        positive = told["decision"]["positive"]
        return (
            positive,
            about["threshold"] if positive is not None else None,
            about["uncertain_low"],
            about["uncertain_high"],
        )
    return None


def _order(rank: sa.ColumnElement[Any], columns: Any, *, down: bool) -> tuple[sa.ColumnElement[Any], ...]:
    terms = (rank, columns.series_id)
    return (*(term.desc() if down else term.asc() for term in terms), columns.model_id)


def _sort_columns(columns: Any) -> dict[Sort, sa.ColumnElement[Any]]:
    threshold = sa.func.coalesce(
        json_number(model.c.series_rule, "series", "threshold"), model.c.threshold, 0.0
    )
    return {
        Sort.TIME: columns.touched_us,
        Sort.CONFIDENCE: sa.func.coalesce(columns.confidence, -1.0),
        Sort.SCORE: sa.func.coalesce(columns.score, -1.0),
        Sort.DOUBT: sa.case(
            (columns.label_id.is_(None), 2.0),
            else_=sa.func.coalesce(sa.func.abs(columns.score - threshold), 2.0),
        ),
        Sort.FILE: by_bytes(sa.func.coalesce(series.c.name, hexadecimal(series.c.series_key))),
        Sort.CLASS: by_bytes(sa.func.coalesce(label.c.name, "")),
        Sort.STATUS: columns.status,
        Sort.ID: columns.series_id,
    }


_SUMMED = ("slices", "rejected", "files")
_OWN = (
    *("series_id", "model_id", "status", "label_id", "confidence", "score", *_SUMMED),
    *("loudest_file_id", "first_us", "touched_us"),
)
_WHOLE_PATH = sa.case(
    (folder.c.path == b"", file.c.name), else_=folder.c.path.concat(b"/").concat(file.c.name)
)
_PATH = sa.cast(sa.func.coalesce(_WHOLE_PATH, b""), sa.LargeBinary)
_SLICES = (
    result.join(file)
    .join(folder, folder.c.id == file.c.folder_id)
    .join(inbox, inbox.c.id == folder.c.inbox_id)
    .join(model)
    .outerjoin(label)
)
_SLICE = (
    result.c.file_id,
    folder.c.path.label("folder_path"),
    file.c.name.label("file_name"),
    inbox.c.path.label("inbox_path"),
    file.c.moved_to,
    label.c.name.label("label_name"),
    *(result.c[name] for name in ("position", "status", "confidence", "score")),
    *(result.c[name] for name in ("slice_index", "slice_count", "sha256", "completed_us")),
)
