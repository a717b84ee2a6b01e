"""Query and Sort: what is asked of the results, as pure values; SQLAlchemy is not imported."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from storage.records import Status


class Sort(StrEnum):
    """What results are sorted by; `results --sort` takes these words."""

    TIME = "time"  # newest first
    CONFIDENCE = "confidence"  # highest first
    SCORE = "score"  # highest first
    DOUBT = "doubt"  # nearest to the threshold first
    FILE = "file"  # by path, A first
    CLASS = "class"
    STATUS = "status"
    ID = "id"  # in the order of the commits, newest first


class Grouping(StrEnum):
    """What results are put together by; `results --by` takes these words."""

    IMAGE = "image"
    SERIES = "series"
    STUDY = "study"
    PATIENT = "patient"


class ReviewFilter(StrEnum):
    """What people have said of an image; `results --review` takes these words.

    Every image is `none` or `reviewed`, every reviewed one agreed, corrected or disputed.
    """

    NONE = "none"  # nothing, or no more than to skip it
    REVIEWED = "reviewed"
    AGREED = "agreed"  # what the model says; of a rejected image, that it is of another kind
    CORRECTED = "corrected"  # anything else
    OTHER_KIND = "other-kind"  # that it is no image the model is for, whether it was rejected or not
    DISPUTED = "disputed"  # two people contradict each other


# The value of the sort column and the result's id: where the next page begins.
Key = tuple[int | float | str | bytes, int]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for; an empty filter lets everything through."""

    since_us: int | None = None  # inclusive
    until_us: int | None = None  # exclusive
    labels: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    min_confidence: float | None = None  # inclusive; rows without a confidence do not pass
    max_confidence: float | None = None  # inclusive
    min_score: float | None = None  # inclusive; rows without a score do not pass
    max_score: float | None = None  # inclusive
    text: str = ""  # part of the path or of the reason, ASCII letters in either case
    inbox: bytes | None = None  # absolute path
    model: str | None = None  # the model's name, or the first letters of the weights' sha256
    review: ReviewFilter | None = None  # what people have said of the image; of series not looked at
    sort: Sort = Sort.TIME
    reverse: bool = False
    limit: int | None = None
    after: Key | None = None  # `ResultRow.key` of the last row of the page before
    file_id: int | None = None  # one file version; of series those that it is part of
    after_result_id: int | None = None  # only what was committed later, for `--follow`
    series_id: int | None = None  # that series, or the images of it
    # Of series, studies and patients only:
    study_of: int | None = None  # the series of the study that this series is of
    patient_of: int | None = None  # likewise
