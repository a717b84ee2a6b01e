"""Write a DICOM Structured Report of each series whose files are still the ones that were judged."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import BtError
from daemon.exchange.export_folder import export_folder
from daemon.exchange.judged_objects import LeftOut, NoReportError, judged_objects
from daemon.exchange.structured_report import SeriesAccount, structured_report
from daemon.version import SHORT_HASH
from storage.queries.series_rows import SeriesRow, SliceRow, series_rows, slices_of
from storage.query import Grouping, Query, Sort
from trainer.images.read import JudgedFile

if TYPE_CHECKING:
    import sqlalchemy as sa

    from trainer.images.picture import Limits
    from trainer.model.spec import ModelSpec

# What only this program's reports are called: a folder of other names is no earlier export.
_SUFFIX = "_sr.dcm"


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """Which series there are to be reports of, and what is needed to make them."""

    query: Query
    now_us: int  # microseconds since the epoch, UTC
    quiet_us: int  # a series to which nothing came for so long is complete
    spec: Callable[[str], ModelSpec | None]  # of a model by its weights' sha256
    limits: Limits


@dataclass(frozen=True, slots=True)
class ReportsWritten:
    """How many reports there are, and why there are no more."""

    reports: int
    left_out: Mapping[LeftOut, int]


def is_report_export(folder: Path) -> bool:
    """Tell whether a folder holds nothing but reports that this program wrote."""
    return all(path.name.endswith(_SUFFIX) for path in folder.iterdir())


def write_reports(
    connection: sa.Connection, request: ReportRequest, folder: Path, done: Callable[[int, int], None]
) -> ReportsWritten:
    """Write a file for each series and model to `folder`; raise BtError when it cannot be written.

    `done` is called with how many series are done, and how many there are.
    """
    import highdicom  # noqa: F401 - whoever lacks it is told before anything is written

    query = replace(request.query, sort=Sort.TIME, reverse=True)
    # Of one model on several engines the last answer, which comes last.
    answers = {_file_name(one): one for one in series_rows(connection, Grouping.SERIES, query)}
    left_out: Counter[LeftOut] = Counter()
    with export_folder(folder) as made:
        for number, (name, answer) in enumerate(answers.items()):
            try:
                data = _report(connection, request, answer)
            except NoReportError as error:
                left_out[error.why] += 1
            else:
                (made / name).write_bytes(data)
            done(number + 1, len(answers))
        if left_out.total() == len(answers):
            raise BtError(f"no report was written: {left_out_words(left_out) or 'no series match'}")
    return ReportsWritten(len(answers) - left_out.total(), left_out)


def left_out_words(left_out: Mapping[LeftOut, int]) -> str:
    """Return how many series have no report and why, "" if all have one."""
    return ", ".join(f"{count} series {why.value}" for why, count in left_out.items())


def _report(connection: sa.Connection, request: ReportRequest, answer: SeriesRow) -> bytes:
    rows = slices_of(connection, answer.id, answer.weights_sha256)
    files = {row.file_id: _file(row) for row in rows}  # once, where several engines judged them
    objects = judged_objects(files.items(), request.limits)
    decisive = next((row for row in rows if row.file_id == answer.decisive_file_id), None)
    has_frames = decisive is not None and (decisive.slice_count or 1) > 1
    account = SeriesAccount(
        answer,
        class_words=_words(request, answer, answer.label),
        positive_words=_words(request, answer, answer.positive),
        decisive_frame=(decisive.slice_index or 0) + 1 if decisive is not None and has_frames else None,
        complete=answer.is_complete(request.now_us, request.quiet_us),
    )
    stream = io.BytesIO()
    structured_report(account, objects).save_as(stream)
    return stream.getvalue()


def _file(row: SliceRow) -> JudgedFile:
    if row.moved_to is not None:
        return JudgedFile(b"", row.moved_to, row.sha256)
    return JudgedFile(row.inbox, row.path, row.sha256)


def _words(request: ReportRequest, answer: SeriesRow, label: str | None) -> str:
    """Return what a class means; a model that is not at hand leaves its name."""
    if label is None:
        return ""
    spec = request.spec(answer.weights_sha256)
    return label if spec is None else spec.meanings.get(label, label)


def _file_name(answer: SeriesRow) -> str:
    """Return a name that is the same the next time; the series' id tells two of one name apart."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", answer.name).strip("-.")[:100]
    return f"{name or 'series'}-{answer.id}-{answer.weights_sha256[:SHORT_HASH]}{_SUFFIX}"
