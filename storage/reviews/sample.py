"""Random sample of the images: which come next, and which reviews together are one.

A review counts as drawn at random once everything before it in the random order (`random_order`) was
reviewed: then all of that stretch counts, whichever queue had shown it, and the doubtful images that were
answered first are neither more nor fewer in it than among all images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice

import sqlalchemy as sa

from storage.queries.review_sql import ANSWERED, IS_SKIP, has_review
from storage.reviews.random_order import in_random_order, order_key
from storage.schema import (
    ERROR_CODE,
    IS_CURRENT,
    STANDS,
    ReviewOrigin,
    file,
    model,
    result,
    review,
    review_order,
)
from storage.statements import LONGEST, PreparedIn

# So many numbers are looked at first, then ever more: the next image is mostly among the first few.
_FIRST_LOOK = 8


def unreviewed(
    connection: sa.Connection, weights_sha256: str, *, skipped: bool = False, without: Collection[int] = ()
) -> Iterator[int]:
    """Yield the files that a model judged and nobody reviewed, in the random order.

    With `skipped` those instead that were skipped and never answered. Versions that were overwritten and
    errors are left out: there is nothing to look at.
    """
    last = connection.execute(sa.select(sa.func.coalesce(sa.func.max(result.c.file_id), 0))).scalar_one()
    numbers = in_random_order(last)
    look, asked = _FIRST_LOOK, _SKIPPED if skipped else _UNREVIEWED
    while chunk := list(islice(numbers, look)):
        found = {row[0] for row in asked.all(connection, (weights_sha256,), chunk)}
        yield from (number for number in chunk if number in found and number not in without)
        look = min(2 * look, LONGEST)


def sample_end(
    connection: sa.Connection, weights_sha256: str, answered: Collection[int], drawn: Sequence[int]
) -> int:
    """Return the key up to which the reviews are a sample once the files `answered` have theirs; -1: none.

    `drawn` are those of them that were drawn at random. It is the last review so drawn before which
    nothing is left unreviewed.
    """
    gap = next(unreviewed(connection, weights_sha256, without=answered), None)
    end = review_order.desc()
    before = (
        sa.select(review_order)
        .where(
            STANDS,
            review.c.origin == int(ReviewOrigin.RANDOM),
            review.c.model_id.in_(_models(weights_sha256)),
        )
        .order_by(end)
        .limit(1)
    )
    if gap is not None:
        before = before.where(review_order < order_key(gap))
    known = connection.execute(before).scalar()
    keys = [key for key in map(order_key, drawn) if gap is None or key < order_key(gap)]
    return max([-1 if known is None else int(known), *keys])


def joining(connection: sa.Connection, weights_sha256: str, end: int) -> list[int]:
    """Return the standing reviews, of whichever model's answer, that are to be counted as drawn."""
    judged = sa.exists().where(
        result.c.file_id == review.c.file_id, result.c.model_id.in_(_models(weights_sha256))
    )
    query = sa.select(review.c.id).where(STANDS, review_order <= end, review.c.in_sample == 0, judged)
    return list(connection.execute(query).scalars())


def _models(weights_sha256: str) -> sa.Select[tuple[int]]:
    return sa.select(model.c.id).where(model.c.weights_sha256 == weights_sha256)


def _judged(
    numbers: Sequence[sa.BindParameter[int]], *terms: sa.ColumnElement[bool]
) -> sa.Select[tuple[int]]:
    of_model = sa.select(model.c.id).where(model.c.weights_sha256 == sa.bindparam("weights"))
    return (
        sa.select(result.c.file_id)
        .select_from(result.join(file))
        .where(
            result.c.model_id.in_(of_model),
            result.c.file_id.in_(numbers),
            result.c.status != sa.literal_column(str(ERROR_CODE)),
            IS_CURRENT,
            *terms,
        )
    )


_UNREVIEWED = PreparedIn(lambda numbers: _judged(numbers, ~has_review(result.c.file_id)), ["weights"])
_SKIPPED = PreparedIn(
    lambda numbers: _judged(
        numbers, has_review(result.c.file_id, IS_SKIP), ~has_review(result.c.file_id, ANSWERED)
    ),
    ["weights"],
)
