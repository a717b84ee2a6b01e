"""Encode and check a worker's answers: JSON, checked value by value where it arrives.

A worker decodes files of unknown origin. Should one of them take a decoder over, what it can send is an
answer for the files of its own batch, and nothing that is run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from config.text import printable
from daemon.frames import GarbledError
from storage.records import Failed, FailureKind, Judged, Outcome, SeriesKeys, Status

if TYPE_CHECKING:
    from daemon.workers.messages import Task

# A whole batch with the longest tags stays far below.
MOST_BYTES = 4 << 20
READY = b"ready"
_UNABLE = b"unable "
_LONGEST_TEXT = 4096
_LONGEST_REASON = 200
_LARGEST_NUMBER = 1 << 53
_KEY_BYTES = 16
_MOST_VOTES = 0xFFFF_FFFF  # as storage.ledger.votes encodes them
_MOST_SLICES = 1 << 20
_ROUNDING = 1e-6


def encode(outcomes: Sequence[Outcome]) -> bytes:
    """Return the message that tells the outcomes of one batch, in the order of its tasks."""
    return json.dumps([_row(outcome) for outcome in outcomes], allow_nan=False).encode()


def decode(message: bytes, batch: Sequence[Task]) -> list[Outcome]:
    """Return the outcomes of exactly the tasks of `batch`; raise GarbledError for anything else."""
    try:
        rows = json.loads(message)
        if type(rows) is not list or len(rows) != len(batch):
            raise GarbledError("not one answer per file")
        return [_outcome(row, task) for row, task in zip(rows, batch, strict=True)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise GarbledError(f"no answer of a lane ({type(error).__name__})") from error


def encode_unable(error: Exception) -> bytes:
    """Return the message that tells why a worker cannot open its engine."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return _UNABLE + line[:_LONGEST_REASON].encode(errors="replace")


def why_unable(message: bytes) -> str | None:
    """Return what `encode_unable` told, safe to print; None if the message is another."""
    if not message.startswith(_UNABLE):
        return None
    return printable(message.removeprefix(_UNABLE).decode(errors="replace")[:_LONGEST_REASON])


def _row(outcome: Outcome) -> list[Any]:
    result = outcome.result
    told = (
        [result.kind, result.reason[:_LONGEST_TEXT]]
        if isinstance(result, Failed)
        else [
            *(result.status, result.label, result.confidence, result.reason),
            *(result.slice_index, result.slice_count, result.tags, result.score),
            *(_series_row(result.series), _votes_row(result.votes), result.rejected, result.distance),
        ]
    )
    sha256 = None if outcome.sha256 is None else outcome.sha256.hex()
    return [outcome.file_id, sha256, outcome.duration_us, *told]


def _outcome(row: Any, task: Task) -> Outcome:
    file_id, sha256, duration_us, *told = row
    if type(file_id) is not int or file_id != task.file_id:
        raise GarbledError("an answer for another file")
    digest = None if sha256 is None else bytes.fromhex(sha256)
    if digest is not None and len(digest) != 32:
        raise GarbledError("no SHA-256")
    result = _failed(*told) if len(told) == 2 else _judged(told)
    return Outcome(file_id, result, digest, _number(duration_us) or 0)


def _failed(kind: Any, reason: Any) -> Failed:
    return Failed(FailureKind(kind), _text(reason) or "")


def _judged(values: Sequence[Any]) -> Judged:
    status, label, confidence, reason, index, count, tags, score, *rest = values
    series, votes, rejected, distance = rest
    known = Status(status)
    if known is Status.ERROR:
        raise GarbledError("an error that is no failure")
    return Judged(
        known,
        _text(label),
        _share(confidence),
        _text(reason),
        _number(index),
        _number(count),
        _tags(tags),
        _share(score),
        _series(series),
        _votes(votes),
        _number(rejected) or 0,
        _distance(distance),
    )


def _series_row(series: SeriesKeys | None) -> list[Any] | None:
    if series is None:
        return None
    keys = (series.series, series.study, series.patient)
    return [*(None if key is None else key.hex() for key in keys), series.position]


def _series(value: Any) -> SeriesKeys | None:
    if value is None:
        return None
    series, study, patient, position = value
    key = _key(series)
    if key is None:
        raise GarbledError("a series without a key")
    if position is not None and (type(position) not in (int, float) or not abs(position) < _LARGEST_NUMBER):
        raise GarbledError("no position")
    return SeriesKeys(key, _key(study), _key(patient), position)


def _key(value: Any) -> bytes | None:
    if value is None:
        return None
    key = bytes.fromhex(value)
    if len(key) != _KEY_BYTES:
        raise GarbledError("no pseudonym")
    return key


def _votes_row(votes: dict[int, int] | None) -> list[list[int]] | None:
    return None if votes is None else [list(entry) for entry in votes.items()]


def _votes(value: Any) -> dict[int, int] | None:
    if value is None:
        return None
    if type(value) is not list:
        raise GarbledError("no votes")
    votes: dict[int, int] = {}
    for vote, count in value:
        if type(vote) is not int or type(count) is not int:
            raise GarbledError("no votes")
        if not 0 <= vote < _MOST_VOTES or not 0 < count < _MOST_SLICES:
            raise GarbledError("no votes")
        votes[vote] = count
    return votes


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if type(value) is not str or len(value) > _LONGEST_TEXT:
        raise GarbledError("no text")
    value.encode()  # half a surrogate pair could not be stored
    return value


def _number(value: Any) -> int | None:
    if value is None or (type(value) is int and 0 <= value < _LARGEST_NUMBER):
        return value
    raise GarbledError("no count")


def _share(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not -_ROUNDING <= value <= 1 + _ROUNDING:  # so NaN is none either
        raise GarbledError("no probability")
    return float(value)


def _distance(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < _LARGEST_NUMBER:
        raise GarbledError("no distance")
    return float(value)


def _tags(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if type(value) is not dict:
        raise GarbledError("no tags")
    return {str(_text(key)): str(_text(text) or "") for key, text in value.items()}
