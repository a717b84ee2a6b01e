"""Series in tests: a ledger that keeps them, slices of them, and their verdicts made anew from the rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from storage.database import open_writer
from storage.ledger.ledger import Ledger
from storage.ledger.series_keeper import ReadPath, SeriesReading
from storage.ledger.votes import decoded
from storage.records import Judged, SeriesKeys, Status
from storage.schema import STATUS_OF_CODE
from tests.support.databases import Target, close_at_end
from tests.support.ledgers import MODEL, OTHER_MODEL, Clock, Store
from trainer.model.series_rule import SeriesRule
from trainer.model.spec import Decision, SeriesDecision

RULE = SeriesRule(
    ("no_tumour", "tumour"),
    Decision(positive="tumour", threshold=0.6, uncertain_low=0.55, uncertain_high=0.65),
    SeriesDecision(share=0.5, scale=1.5, offset=-0.5, threshold=0.4, uncertain_low=0.35, uncertain_high=0.45),
)
OTHER_RULE = replace(RULE, series=SeriesDecision(share=1.0, scale=2.0))
SERIES_MODEL = replace(MODEL, positive="tumour", threshold=0.6, series_rule=RULE.to_json())
OTHER_SERIES_MODEL = replace(OTHER_MODEL, positive="tumour", threshold=0.6, series_rule=OTHER_RULE.to_json())


def open_series_store(path: Target, read_path: ReadPath | None = None) -> Store:
    """Open (or make) a database at `path` with a ledger that keeps series."""
    clock = Clock()
    connection = open_writer(path, busy_seconds=0.1)
    close_at_end(connection, path)
    ledger = Ledger(connection, clock, series=SeriesReading(SeriesRule.from_json, read_path))
    with ledger.transaction():
        return Store(
            path, connection, ledger, clock, ledger.inbox_id(b"/inbox"), ledger.model_id(SERIES_MODEL)
        )


def keys(number: int, position: float | None = None) -> SeriesKeys:
    """Return the pseudonyms of a series; every second one is the same patient's."""
    series, study, patient = (
        value.to_bytes(16, "big") for value in (number, 100 + number, 200 + number // 2)
    )
    return SeriesKeys(series, study, patient, position)


def slice_of(series: SeriesKeys | None, score: float, *, rejected: bool = False, **more: Any) -> Judged:
    """Return the judgement of one slice with a score."""
    if rejected:
        return Judged(Status.REJECTED, None, None, "unlike", score=score, series=series, **more)
    label = "tumour" if score >= 0.6 else "no_tumour"
    return Judged(Status.OK, label, max(score, 1 - score), score=score, series=series, **more)


def verdicts(connection: sa.Connection) -> dict[tuple[int, int], dict[str, Any]]:
    """Return the stored verdicts by (series, model), with words for codes."""
    query = sa.text("""
        SELECT v.*, label.name AS label FROM series_verdict AS v LEFT JOIN label ON label.id = v.label_id
    """)
    found = {}
    for row in connection.execute(query).mappings():
        told = {name: row[name] for name in _COMPARED}
        found[row["series_id"], row["model_id"]] = told | {"status": STATUS_OF_CODE[row["status"]].value}
    connection.rollback()
    return found


_COMPARED = (
    *("label", "confidence", "score", "slices", "rejected", "files"),
    *("loudest_file_id", "loudest_score", "first_us", "touched_us"),
)


def verdicts_of_rows(connection: sa.Connection) -> dict[tuple[int, int], dict[str, Any]]:
    """Return what the verdicts have to be, made of the result rows one by one."""
    query = sa.text("""
        SELECT r.*, label.name AS label, model.series_rule
        FROM result AS r JOIN file ON file.id = r.file_id JOIN model ON model.id = r.model_id
        LEFT JOIN label ON label.id = r.label_id
        WHERE r.series_id IS NOT NULL AND r.status < 3 AND file.state <> 3
        ORDER BY r.id
    """)
    groups: dict[tuple[int, int], list[Any]] = {}
    for row in connection.execute(query).mappings():
        groups.setdefault((row["series_id"], row["model_id"]), []).append(row)
    connection.rollback()
    return {key: _verdict(rows) for key, rows in groups.items()}


def _verdict(rows: list[Any]) -> dict[str, Any]:
    rule = SeriesRule.from_json(rows[0]["series_rule"])
    votes: Counter[int] = Counter()
    rejected = 0
    for row in rows:
        if row["votes"] is not None:
            some, none = decoded(row["votes"])
            votes.update(some)
            rejected += none
        elif row["status"] == 2:
            rejected += 1
        else:
            votes[rule.vote(row["label"], row["score"])] += 1
    answer = rule.conclude(votes, rejected)
    assert answer is not None
    heard = sorted(
        (row for row in rows if row["status"] != 2), key=lambda row: (-row["score"], row["file_id"])
    )
    return {
        "status": str(answer.verdict),
        "label": answer.label,
        "confidence": answer.confidence,
        "score": answer.score,
        "slices": votes.total(),
        "rejected": rejected,
        "files": len(rows),
        "loudest_file_id": heard[0]["file_id"] if heard else None,
        "loudest_score": heard[0]["score"] if heard else None,
        "first_us": min(row["completed_us"] for row in rows),
        "touched_us": max(row["completed_us"] for row in rows),
    }
