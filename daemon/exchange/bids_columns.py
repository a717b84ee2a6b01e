"""Columns of the BIDS tables of series and participants, each with what its JSON sidecar says of it.

https://bids-specification.readthedocs.io, "Common principles", Tabular files: tab-separated, a header,
`n/a` for what is not known, and a JSON object of the same name that describes each column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from config.text import printable
from storage.queries.series_rows import SeriesRow

MISSING = "n/a"
_SCORE_DIGITS = 6  # decimals: more than calibration can tell apart


@dataclass(frozen=True, slots=True)
class BidsRow:
    """One answer, and the labels it has in the dataset."""

    answer: SeriesRow
    participant: str  # sub-<label>
    session: str | None  # ses-<label>
    complete: bool


@dataclass(frozen=True, slots=True)
class BidsColumn:
    """One column: how it is filled and described."""

    name: str
    value: Callable[[BidsRow], object]
    long_name: str
    description: str
    levels: Mapping[str, str] | None = None

    def cell(self, row: BidsRow) -> str:
        """Return the text of one cell, without tabs and line ends."""
        value = self.value(row)
        if value is None:
            return MISSING
        if isinstance(value, bool):
            return "true" if value else "false"
        return f"{value:.{_SCORE_DIGITS}g}" if isinstance(value, float) else printable(str(value))


def sidecar(columns: Sequence[BidsColumn]) -> dict[str, Any]:
    """Return what the JSON file beside a table says of its columns."""
    return {
        column.name: {"LongName": column.long_name, "Description": column.description}
        | ({"Levels": dict(column.levels)} if column.levels else {})
        for column in columns
    }


def series_columns(meanings: Mapping[str, str]) -> list[BidsColumn]:
    """Return the columns of the table of series; `meanings` says what each class stands for."""
    return [
        _PARTICIPANT,
        BidsColumn(
            "session_id",
            lambda row: row.session,
            "Session",
            "The study the series is a part of. As the name of its files says, or a pseudonym.",
        ),
        BidsColumn(
            "series_id",
            lambda row: row.answer.name,
            "Series",
            "The series: its name where its files' names or a setting tell it, else a pseudonym.",
        ),
        *_answer_columns(meanings, "series"),
        _FILES,
        *_CLOSING,
        *_MODEL,
    ]


def participant_columns(meanings: Mapping[str, str]) -> list[BidsColumn]:
    """Return the columns of one model's table of participants, one row each."""
    return [
        _PARTICIPANT,
        *_answer_columns(meanings, "participant"),
        BidsColumn(
            "series",
            lambda row: row.answer.series,
            "Number of series",
            "The series that were judged. The answer is that of the one with the highest score.",
        ),
        *_CLOSING,
    ]


_PARTICIPANT = BidsColumn(
    "participant_id",
    lambda row: row.participant,
    "Participant",
    "As the name of the files says, or a pseudonym. A series of which no patient is known stands for a "
    "participant of its own.",
)
_STATUS = {
    "ok": "judged",
    "uncertain": "judged, but the score lies in the band around the threshold: a person should look",
    "rejected": "not like the images the model was made for: no class is given",
}


def _answer_columns(meanings: Mapping[str, str], whose: str) -> list[BidsColumn]:
    return [
        BidsColumn("status", lambda row: row.answer.status.value, "Status", "How it was judged.", _STATUS),
        BidsColumn(
            "class",
            lambda row: row.answer.label,
            "Class",
            f"The class that the {whose} was given; n/a: rejected.",
            meanings,
        ),
        *_score_columns(meanings),
        BidsColumn(
            "slices",
            lambda row: row.answer.slices,
            "Number of slices",
            "Slices that the answer rests on.",
        ),
        BidsColumn(
            "rejected_slices",
            lambda row: row.answer.rejected,
            "Number of rejected slices",
            "Further slices, unlike the images the model was made for; they have no say.",
        ),
    ]


def _score_columns(meanings: Mapping[str, str]) -> list[BidsColumn]:
    return [
        BidsColumn(
            "score",
            lambda row: row.answer.score,
            "Score",
            "Calibrated probability, 0 to 1, of the class in `positive`; of the likeliest class where that "
            "is n/a.",
        ),
        BidsColumn(
            "positive",
            lambda row: row.answer.positive,
            "Class of interest",
            "The class that is looked for.",
            meanings,
        ),
        BidsColumn(
            "threshold",
            lambda row: row.answer.threshold,
            "Threshold",
            "Score from which on the class is the one in `positive`.",
        ),
    ]


def _time(microseconds: int) -> str:
    """Return a time as BIDS writes it ("Common principles", Units), in UTC."""
    return f"{datetime.fromtimestamp(microseconds // 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"


_FILES = BidsColumn("files", lambda row: row.answer.files, "Number of files", "Files of the series, judged.")
_CLOSING = [
    BidsColumn(
        "complete",
        lambda row: row.complete,
        "Complete",
        "Whether nothing had come for the quiet time (setting series_quiet) when this was written.",
        {"true": "nothing had come for that long", "false": "more slices may come"},
    ),
    BidsColumn(
        "last_judged",
        lambda row: _time(row.answer.touched_us),
        "Time of the last judgement",
        "When the last slice was judged (ISO 8601, UTC).",
    ),
]
_MODEL = [
    BidsColumn("model", lambda row: row.answer.model, "Model", "Name of the network that judged."),
    BidsColumn("model_version", lambda row: row.answer.model_version, "Model version", "Its version."),
    BidsColumn(
        "weights_sha256",
        lambda row: row.answer.weights_sha256,
        "Hash of the weights",
        "SHA-256 of the weights file: it names the model exactly.",
    ),
]
