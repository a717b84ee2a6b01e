"""Random sample of the images: which come next, and which reviews together are one.

A review counts as drawn at random once everything before it in the random order (`storage.random_order`) was
reviewed: then all of that stretch counts, whichever queue had shown it, and the doubtful images that were
answered first are neither more nor fewer in it than among all images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice

import sqlalchemy as sa

from storage.queries.review_sql import has_review, skips
from storage.random_order import PRIME, in_random_order, order_key, random_order_of
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
from storage.statements import Prepared, PreparedIn

# So many numbers are looked at first, then ever more: the next image is mostly among the first few.
_FIRST_LOOK, _LONGEST_LOOK = 32, 4_096
# After so many numbers without a find the model's own files, few among the others, are sorted instead.
_PATIENCE = 20_000


def unreviewed(
    connection: sa.Connection, weights_sha256: str, without: Collection[int] = ()
) -> Iterator[int]:
    """Yield the files that a model judged and nobody reviewed, in the random order.

    Versions that were overwritten and errors are left out: there is nothing to look at.
    """
    last = connection.execute(_LAST_FILE).scalar_one()
    numbers = in_random_order(last)
    look, since_found, passed = _FIRST_LOOK, 0, -1
    while chunk := list(islice(numbers, look)):
        keys = [order_key(number) for number in chunk]
        # The reviewed ones are most of the beginning: an index alone tells them.
        reviewed = {key for (key,) in _REVIEWED.all(connection, (keys[0], keys[-1]))}
        left = [number for number, key in zip(chunk, keys, strict=True) if key not in reviewed]
        found = {number for (number,) in _JUDGED.all(connection, (weights_sha256,), left)}
        yield from (number for number in left if number in found and number not in without)
        look, passed = min(2 * look, _LONGEST_LOOK), keys[-1]
        since_found = 0 if found else since_found + len(left)
        if since_found > _PATIENCE:
            rest = connection.execute(_REST, {"weights": weights_sha256, "passed": passed}).scalars()
            yield from (number for number in rest if number not in without)
            return


def skipped(connection: sa.Connection, weights_sha256: str, without: Collection[int] = ()) -> list[int]:
    """Return the files that a model judged and people only skipped, in the random order."""
    numbers = sorted(connection.execute(_SKIPPED).scalars(), key=order_key)
    found = {number for (number,) in _JUDGED.all(connection, (weights_sha256,), numbers)}
    return [number for number in numbers if number in found and number not in without]


def sample_end(
    connection: sa.Connection, weights_sha256: str, answered: Collection[int], drawn: Sequence[int]
) -> int:
    """Return the key up to which the reviews are a sample once the files `answered` have theirs; -1: none.

    `drawn` are those of them that were drawn at random. It is the last review so drawn before which
    nothing is left unreviewed.
    """
    gap = next(unreviewed(connection, weights_sha256, answered), None)
    before = PRIME if gap is None else order_key(gap)
    [(known,)] = _LAST_DRAWN.all(connection, (before, weights_sha256))
    return max([int(known), *(key for key in map(order_key, drawn) if key < before)])


def joining(connection: sa.Connection, weights_sha256: str, end: int) -> list[int]:
    """Return the standing reviews, of whichever model's answer, that are to be counted as drawn."""
    return [number for (number,) in _JOINING.all(connection, (end, weights_sha256))]


_OF_MODEL = sa.select(model.c.id).where(model.c.weights_sha256 == sa.bindparam("weights"))


# What a model judged and is still there to be looked at.
_LOOKED_AT = (
    result.c.model_id.in_(_OF_MODEL),
    result.c.status != sa.literal_column(str(ERROR_CODE)),
    IS_CURRENT,
)
_JUDGED = PreparedIn(
    lambda numbers: (
        sa.select(result.c.file_id)
        .select_from(result.join(file))
        .where(*_LOOKED_AT, result.c.file_id.in_(numbers))
    ),
    ["weights"],
)
_result_order = random_order_of(result.c.file_id)
_REST = (
    sa.select(result.c.file_id)
    .select_from(result.join(file))
    .where(*_LOOKED_AT, _result_order > sa.bindparam("passed"), ~has_review(result.c.file_id))
    .group_by(result.c.file_id)
    .order_by(_result_order)
)
_LAST_FILE = sa.select(sa.func.coalesce(sa.func.max(result.c.file_id), 0))
_SKIPPED = sa.select(skips.subquery("skip").c.file_id)
_REVIEWED = Prepared(
    sa.select(review_order).where(
        STANDS, review_order >= sa.bindparam("least"), review_order <= sa.bindparam("most")
    ),
    ["least", "most"],
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
