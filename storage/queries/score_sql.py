"""Score of a result in SQL: as stored, or as label and confidence tell it of older rows.

Schema 0001 stored no scores. Of two classes the one not given has the rest of the probability, so a row of
such a model has its score as soon as a daemon has said again which class it is of (`model.positive`).
A row of a model with more classes, or of one that no daemon has used since, has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from storage.portable_sql import json_length
from storage.schema import label, model, result

# In a subquery and not joined: coalesce asks it for the rows without a score only, and those are few.
_by, _given = model.alias("scored_by"), label.alias("given")
_TWO_CLASSES = json_length(_by.c.classes) == sa.literal_column("2")
# `uncertain_low` is stored with every model since schema 0002: a model that has it and no class of interest
# scores the likeliest class, which is the one given.
_DERIVED = (
    sa.select(
        sa.case(
            (_given.c.name.is_(None), None),
            (_given.c.name == _by.c.positive, result.c.confidence),
            (_by.c.positive.is_not(None) & _TWO_CLASSES, sa.literal_column("1.0") - result.c.confidence),
            (_by.c.positive.is_(None) & _by.c.uncertain_low.is_not(None), result.c.confidence),
        )
    )
    .select_from(_by.outerjoin(_given, _given.c.id == result.c.label_id))
    .where(_by.c.id == result.c.model_id)
    .correlate(result)
    .scalar_subquery()
)
score_column: sa.ColumnElement[Any] = sa.func.coalesce(result.c.score, _DERIVED)

# Farther than any score can be from a threshold: rows without a class or a score come last.
NO_DOUBT = 2.0


def _doubt(threshold: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    farthest: sa.ColumnElement[Any] = sa.literal_column(str(NO_DOUBT))
    distance = sa.func.abs(score_column - sa.func.coalesce(threshold, sa.literal_column("0.0")))
    return sa.case((result.c.label_id.is_(None), farthest), else_=sa.func.coalesce(distance, farthest))


doubt_column: sa.ColumnElement[Any] = _doubt(model.c.threshold)


def doubt_among(thresholds: Mapping[int, float]) -> sa.ColumnElement[Any]:
    """Return `doubt_column` without its join, for the models of whom the thresholds are given by id."""
    return _doubt(sa.case(dict(thresholds), value=result.c.model_id) if thresholds else sa.null())


def doubt(label_name: str | None, score: float | None, threshold: float | None) -> float:
    """Return how far a score is from its threshold, as `doubt_column` does to the bit: pages go on behind it.

    Without a threshold (no class of interest) the least likely answer is the most doubtful one.
    """
    if label_name is None or score is None:
        return NO_DOUBT
    return abs(score - (threshold if threshold is not None else 0.0))
