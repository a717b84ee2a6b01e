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
    REVIEW_PRIME,
    STANDS,
    ReviewOrigin,
    file,
    model,
    result,
    review,
    review_order,
)
from storage.statements import LONGEST, Prepared, PreparedIn

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
    before = REVIEW_PRIME if gap is None else order_key(gap)
    [(known,)] = _LAST_DRAWN.all(connection, (before, weights_sha256))
    return max([int(known), *(key for key in map(order_key, drawn) if key < before)])


def joining(connection: sa.Connection, weights_sha256: str, end: int) -> list[int]:
    """Return the standing reviews, of whichever model's answer, that are to be counted as drawn."""
    return [number for (number,) in _JOINING.all(connection, (end, weights_sha256))]


_OF_MODEL = sa.select(model.c.id).where(model.c.weights_sha256 == sa.bindparam("weights"))


def _judged(
    numbers: Sequence[sa.BindParameter[int]], *terms: sa.ColumnElement[bool]
) -> sa.Select[tuple[int]]:
    return (
        sa.select(result.c.file_id)
        .select_from(result.join(file))
        .where(
            result.c.model_id.in_(_OF_MODEL),
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
_LAST_DRAWN = Prepared(
    sa.select(sa.func.coalesce(sa.func.max(review_order), sa.literal_column("-1"))).where(
        STANDS,
        review_order < sa.bindparam("before"),
        review.c.origin == sa.literal_column(str(int(ReviewOrigin.RANDOM))),
        review.c.model_id.in_(_OF_MODEL),
    ),
    ["before", "weights"],
)
_JOINING = Prepared(
    sa.select(review.c.id).where(
        STANDS,
        review_order <= sa.bindparam("end"),
        review.c.in_sample == sa.literal_column("0"),
        sa.exists().where(result.c.file_id == review.c.file_id, result.c.model_id.in_(_OF_MODEL)),
    ),
    ["end", "weights"],
)
