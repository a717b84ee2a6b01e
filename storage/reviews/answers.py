"""Review and StoredReview: what a person says of one file version, as it is stored and read back."""

from __future__ import annotations

from dataclasses import dataclass

from storage.records import Status
from storage.schema import ReviewAnswer, ReviewOrigin

REQUEST_BYTES = 16
LONGEST_NOTE = 65_536  # characters
LONGEST_REVIEWER = 100  # characters


@dataclass(frozen=True, slots=True)
class Review:
    """What is to be stored: one answer about one file version, by a person who saw one model's answer."""

    request_id: bytes  # 16 bytes, made once per answer by whoever asks: a repetition is the same review
    file_id: int
    weights_sha256: str  # hex; of the model whose answer was seen
    reviewer: str
    answer: ReviewAnswer
    at_us: int
    origin: ReviewOrigin
    label: str | None = None  # a class of that model, of ReviewAnswer.CLASS alone
    note: str = ""


@dataclass(frozen=True, slots=True)
class StoredReview:
    """A review read back, with the image that it is about and what the model said at that time."""

    id: int  # grows in the order of the commits
    request_id: bytes
    file_id: int
    inbox: bytes  # absolute path
    path: bytes  # relative to the inbox
    moved_to: bytes | None  # absolute path, when the file was moved after its result was stored
    sha256: bytes | None  # of the bytes judged
    model: str
    model_version: str
    weights_sha256: str
    reviewer: str
    answer: ReviewAnswer
    label: str | None  # the class said
    shown_label: str | None  # what the model said when the person looked; None: rejected
    shown_status: Status | None
    origin: ReviewOrigin
    in_sample: bool  # counts as drawn at random
    note: str
    at_us: int
    withdrawn_us: int | None
    superseded: bool  # a newer version of the file has come since
    series_id: int | None
    position: float | None  # along the series, in mm or by number
    slice_count: int | None  # of a volume
    study_key: bytes | None  # pseudonym, 16 bytes; None: not known
    patient_key: bytes | None

    @property
    def stands(self) -> bool:
        """Whether it was neither undone nor followed by another answer of the same reviewer."""
        return self.withdrawn_us is None

    @property
    def agrees(self) -> bool | None:
        """Whether the person said what the model had said; None for one who skipped.

        To say that an image is of no kind the model is for is to agree with its rejection.
        """
        if self.answer is ReviewAnswer.SKIPPED or self.shown_status is None:
            return None
        if self.answer is ReviewAnswer.OTHER_KIND:
            return self.shown_status is Status.REJECTED
        return self.shown_status is not Status.REJECTED and self.label == self.shown_label
