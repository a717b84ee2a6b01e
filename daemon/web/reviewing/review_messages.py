"""Messages of the review page: what a browser sends, checked before anything is done with it."""

from __future__ import annotations

import uuid
from typing import Annotated, Literal, TypeVar

import msgspec

from config.errors import UsageError
from config.text import printable
from storage.reviews.answers import LONGEST_NOTE, LONGEST_REVIEWER, Review
from storage.schema import ReviewAnswer, ReviewOrigin

_MOST_ID = 10**18
ANSWERS = {
    "class": ReviewAnswer.CLASS,
    "other-kind": ReviewAnswer.OTHER_KIND,
    "skip": ReviewAnswer.SKIPPED,
}
# What a page can be shown an image for; what is imported comes by another way.
ORIGINS = {
    "uncertain": ReviewOrigin.UNCERTAIN,
    "near": ReviewOrigin.NEAR,
    "random": ReviewOrigin.RANDOM,
    "chosen": ReviewOrigin.CHOSEN,
}

_Message = TypeVar("_Message")
_Reviewer = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_REVIEWER)]


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    """One answer about one image."""

    request: uuid.UUID
    id: Annotated[int, msgspec.Meta(ge=1, le=_MOST_ID)]
    model: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    answer: Literal["class", "other-kind", "skip"]
    origin: Literal["uncertain", "near", "random", "chosen"]
    reviewer: _Reviewer
    label: str | None = msgspec.field(default=None, name="class")
    note: Annotated[str, msgspec.Meta(max_length=LONGEST_NOTE)] = ""


class Undo(msgspec.Struct, forbid_unknown_fields=True):
    """One answer is taken back."""

    request: uuid.UUID
    reviewer: _Reviewer


def read_answer(body: bytes, at_us: int) -> Review:
    """Return the review that a message asks to store; raises UsageError."""
    sent = _read(body, _Answer)
    check_reviewer(sent.reviewer)
    return Review(
        sent.request.bytes, sent.id, sent.model, sent.reviewer, ANSWERS[sent.answer], at_us,
        ORIGINS[sent.origin], sent.label, sent.note,
    )  # fmt: skip


def read_undo(body: bytes) -> Undo:
    """Return what is to be taken back; raises UsageError."""
    sent = _read(body, Undo)
    check_reviewer(sent.reviewer)
    return sent


def check_reviewer(name: str) -> None:
    """Raise UsageError for a name that could be taken for another, or disturbs what shows it."""
    if not name or len(name) > LONGEST_REVIEWER:
        raise UsageError(f"a reviewer's name has 1 to {LONGEST_REVIEWER} characters")
    if printable(name) != name or name != name.strip():
        raise UsageError(
            "the reviewer's name has characters that cannot be seen",
            hint="write it without spaces around it and control characters",
        )


def _read(body: bytes, kind: type[_Message]) -> _Message:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"the request cannot be read ({printable(str(error))})", hint="reload the page and answer again"
        ) from None
