"""Score of a result in SQL: as stored, or as label and confidence tell it of older rows.

Schema 0001 stored no scores. Of two classes the one not given has the rest of the probability, so a row of
such a model has its score as soon as a daemon has said again which class it is of (`model.positive`).
A row of a model with more classes, or of one that no daemon has used since, has none.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from storage.schema import label, model, result

_TWO_CLASSES = sa.func.json_array_length(model.c.classes) == sa.literal_column("2")
# `uncertain_low` is stored with every model since schema 0002: a model that has it and no class of interest
# scores the likeliest class, which is the one given.
_DERIVED = sa.case(
    (label.c.name.is_(None), None),
    (label.c.name == model.c.positive, result.c.confidence),
    (model.c.positive.is_not(None) & _TWO_CLASSES, sa.literal_column("1.0") - result.c.confidence),
    (model.c.positive.is_(None) & model.c.uncertain_low.is_not(None), result.c.confidence),
)
score_column: sa.ColumnElement[Any] = sa.func.coalesce(result.c.score, _DERIVED)

# Farther than any score can be from a threshold: rows without a class or a score come last.
NO_DOUBT = 2.0
_DISTANCE = sa.func.abs(score_column - sa.func.coalesce(model.c.threshold, sa.literal_column("0.0")))
doubt_column: sa.ColumnElement[Any] = sa.case(
    (label.c.name.is_(None), sa.literal_column(str(NO_DOUBT))),
    else_=sa.func.coalesce(_DISTANCE, sa.literal_column(str(NO_DOUBT))),
)


def doubt(label_name: str | None, score: float | None, threshold: float | None) -> float:
    """Return how far a score is from its threshold, as `doubt_column` does to the bit: pages go on behind it.

    Without a threshold (no class of interest) the least likely answer is the most doubtful one.
    """
    if label_name is None or score is None:
        return NO_DOUBT
    return abs(score - (threshold if threshold is not None else 0.0))
