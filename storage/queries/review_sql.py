"""Reviews of a result's image in SQL: what all that stand together say, and filters by it.

Reviews are of file versions, whatever model's answer was seen: so they tell of every model that judged
the file. Who skipped said nothing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from storage.query import ReviewFilter
from storage.records import Status
from storage.schema import STANDS, STATUS_CODES, ReviewAnswer, result, review

# The class that was said, 0 for "of another kind".
OTHER_KIND = 0
_DISPUTED, _NOTHING = -1, -2
_said = sa.case((review.c.answer == int(ReviewAnswer.OTHER_KIND), OTHER_KIND), else_=review.c.label_id)
# Literals, so that statements prepared without parameters may have them.
_skipped: sa.ColumnElement[int] = sa.literal_column(str(int(ReviewAnswer.SKIPPED)))
ANSWERED = STANDS & (review.c.answer != _skipped)
IS_SKIP = STANDS & (review.c.answer == _skipped)
# What all that answered agree on.
_together = sa.case((sa.func.min(_said) == sa.func.max(_said), sa.func.min(_said)), else_=_DISPUTED)

# file_id, said: every file that a person answered, and what of: OTHER_KIND, a class's number, or NULL
# where people contradict each other.
truths = (
    sa.select(
        review.c.file_id,
        sa.func.nullif(_together, _DISPUTED).label("said"),
        sa.func.max(review.c.in_sample).label("in_sample"),
    )
    .where(ANSWERED)
    .group_by(review.c.file_id)
)
# file_id, in_sample: every file that people only skipped.
skips = (
    sa.select(review.c.file_id, sa.func.max(review.c.in_sample).label("in_sample"))
    .where(STANDS)
    .group_by(review.c.file_id)
    .having(sa.func.min(review.c.answer) == _skipped)  # the largest of the codes
)


def review_term(wanted: ReviewFilter) -> sa.ColumnElement[bool]:
    """Return what narrows results down to those whose image was reviewed so."""
    answered = sa.select(review.c.file_id).where(ANSWERED)
    of_file = answered.group_by(review.c.file_id)
    if wanted is ReviewFilter.NONE:
        return ~has_review(result.c.file_id, ANSWERED)
    if wanted is ReviewFilter.DISPUTED:
        return result.c.file_id.in_(of_file.having(_together == _DISPUTED))
    if wanted is ReviewFilter.OTHER_KIND:
        return result.c.file_id.in_(of_file.having(_together == OTHER_KIND))
    # The reviews are few beside the results: SQLite begins with them.
    reviewed = result.c.file_id.in_(answered)
    if wanted is ReviewFilter.REVIEWED:
        return reviewed
    said = sa.select(_together).where(review.c.file_id == result.c.file_id, ANSWERED).scalar_subquery()
    shown = sa.case(
        (result.c.status == STATUS_CODES[Status.REJECTED], OTHER_KIND),
        else_=sa.func.coalesce(result.c.label_id, _NOTHING),
    )
    agrees = said == shown
    return reviewed & (agrees if wanted is ReviewFilter.AGREED else said.not_in([_DISPUTED, shown]))


def has_review(file_id: sa.ColumnElement[Any], which: sa.ColumnElement[bool] = STANDS) -> sa.Exists:
    """Whether anybody has said something of the image: anything that stands, ANSWERED or IS_SKIP."""
    return sa.exists().where(review.c.file_id == file_id, which)
