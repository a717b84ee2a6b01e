"""Count the images and the judgements that a query is about.

An image is one version of one file: rewritten with other content it is another image, moved or judged by a
second model it is the same one. A judgement is what one model concluded of one image, an error too: one row
of `results`. What is called a number of images, here, in `results --count`, `status`, `report` and `web`, is
that; where judgements are more than images, both are said. Counts by class and status belong to one model
(`summary_by_model`), since two models may disagree about an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from storage.database import reading
from storage.queries.results import JOINED, grouped, needs_join, row_terms
from storage.query import Query
from storage.records import Status
from storage.schema import STATUS_OF_CODE, label, model, result

# So many judgements of several models are looked at for a page that people wait for (about a second); all
# of them take an eighth of what a selection takes, for an index alone has what is needed.
_MOST = 1_000_000
_INDEX_ALONE = 8


class Totals(NamedTuple):
    """Numbers of a query's results, whatever its limit."""

    images: int | None  # None: not counted, since it would have taken more than about a second
    judgements: int
    models: int  # different weights that made them


@dataclass(frozen=True, slots=True)
class ModelSummaryRow:
    """How many images one model gave this class and status; of a model on two engines, on either."""

    name: str
    version: str
    weights_sha256: str
    label: str | None
    status: Status
    count: int


def totals(connection: sa.Connection, query: Query, *, patient: bool = False) -> Totals:
    """Return how many images, judgements and models there are, whatever the limit.

    As quick as a summary where one model on one engine judged. Else the images have to be counted one by
    one, which takes some tenths of a second per million; of very many this is done for the `patient` only.
    """
    with reading(connection):
        by_model: dict[int, int] = {}
        for model_id, _, _, number in grouped(connection, query):
            by_model[model_id] = by_model.get(model_id, 0) + number
        by_model = {model_id: number for model_id, number in by_model.items() if number}
        judgements = sum(by_model.values())
        several = len(by_model) > 1
        images = _images(connection, query, judgements, patient=patient) if several else judgements
        weights = sa.select(sa.func.count(model.c.weights_sha256.distinct())).where(model.c.id.in_(by_model))
        return Totals(images, judgements, connection.execute(weights).scalar_one())


def summary_by_model(connection: sa.Connection, query: Query) -> list[ModelSummaryRow]:
    """Return how many images each model gave which class and status, the most used model first."""
    with reading(connection):
        sums: dict[tuple[str, int, int], int] = {}
        known = {row.id: row for row in connection.execute(sa.select(model))}
        for model_id, label_id, status, number in grouped(connection, query):
            key = (known[model_id].weights_sha256, label_id, status)
            sums[key] = sums.get(key, 0) + number
        names = dict(connection.execute(sa.select(label.c.id, label.c.name)).all())
    by_weights = {row.weights_sha256: row for row in known.values()}
    of_model: dict[str, int] = {}
    for (weights, _, _), number in sums.items():
        of_model[weights] = of_model.get(weights, 0) + number
    found = [
        ModelSummaryRow(
            by_weights[weights].name, by_weights[weights].version, weights,
            names.get(label_id), STATUS_OF_CODE[status], number,
        )
        for (weights, label_id, status), number in sums.items()
        if number
    ]  # fmt: skip
    return sorted(
        found,
        key=lambda row: (
            -of_model[row.weights_sha256], row.weights_sha256, -row.count, row.status, row.label or "",
        ),
    )  # fmt: skip


def _images(connection: sa.Connection, query: Query, judgements: int, *, patient: bool) -> int | None:
    terms = row_terms(connection, query, query.since_us, query.until_us)
    if not patient and judgements > (_MOST if terms else _MOST * _INDEX_ALONE):
        return None
    source = JOINED if needs_join(query) else result
    # As a subquery: then SQLite walks the index of (file, model) instead of collecting the numbers first.
    different = sa.select(result.c.file_id).select_from(source).where(*terms).distinct().subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(different)).scalar_one())
