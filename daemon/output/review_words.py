"""Words for reviews: answers, why an image was shown, and what several reviews of one image say together."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.output.result_columns import SHORT_HASH
from storage.schema import ReviewAnswer, ReviewOrigin

if TYPE_CHECKING:
    from storage.reviews.answers import StoredReview

ANSWER_WORDS = {
    ReviewAnswer.CLASS: "class",
    ReviewAnswer.OTHER_KIND: "other-kind",
    ReviewAnswer.SKIPPED: "skip",
}
ORIGIN_WORDS = {
    ReviewOrigin.UNCERTAIN: "uncertain",
    ReviewOrigin.NEAR: "near",
    ReviewOrigin.RANDOM: "random",
    ReviewOrigin.CHOSEN: "chosen",
    ReviewOrigin.IMPORTED: "imported",
}
DISPUTED = "disputed"


@dataclass(frozen=True, slots=True)
class Said:
    """What all reviews of one image say together."""

    answer: ReviewAnswer | None  # None: people contradict each other
    label: str | None
    reviewers: tuple[str, ...]

    @property
    def words(self) -> str:
        """The class, or other-kind, skip, disputed."""
        if self.label is not None:
            return self.label
        return DISPUTED if self.answer is None else ANSWER_WORDS[self.answer]


def together(found: Iterable[StoredReview]) -> dict[int, Said]:
    """Return by file what its standing reviews say; who skipped does not count where others answered."""
    by_file: dict[int, list[StoredReview]] = {}
    for one in found:
        if one.stands:
            by_file.setdefault(one.file_id, []).append(one)
    return {file_id: _together(some) for file_id, some in by_file.items()}


def _together(some: list[StoredReview]) -> Said:
    answered = [one for one in some if one.answer is not ReviewAnswer.SKIPPED] or some
    reviewers = tuple(dict.fromkeys(one.reviewer for one in answered))
    answers = {(one.answer, one.label) for one in answered}
    return Said(*answers.pop(), reviewers) if len(answers) == 1 else Said(None, None, reviewers)


def said(one: StoredReview) -> str:
    """Return what a person said: a class, other-kind or skip."""
    return ANSWER_WORDS[one.answer] if one.label is None else one.label


def shown(one: StoredReview) -> str | None:
    """Return what the network had said: its class, or its status where it gave none."""
    return one.shown_label or (None if one.shown_status is None else one.shown_status.value)


def full_path(one: StoredReview) -> bytes:
    """Return where the file was left, absolute; it may have been deleted since."""
    return one.moved_to or os.path.join(one.inbox, one.path)


def reviewed_model(one: StoredReview) -> str:
    """Return the model whose answer was seen, with the hash that tells it from all others."""
    return f"{one.model} {one.model_version} {one.weights_sha256[:SHORT_HASH]}"
