"""A million rows as the pages meet them: two inboxes, two models, half in series, errors, doubts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from storage.schema import TALLY_SECONDS
from tests.benchmark import series_scale

_TALLIES = (
    "DELETE FROM tally",
    *(
        f"""
        INSERT INTO tally (seconds, start_us, inbox_id, model_id, label_id, status, count)
        SELECT {seconds}, completed_us / {seconds}000000 * {seconds}000000, inbox_id, model_id,
               coalesce(label_id, 0), status, count(*)
        FROM result JOIN file ON file.id = file_id JOIN folder ON folder.id = folder_id
        GROUP BY 2, 3, 4, 5, 6
        """
        for seconds in TALLY_SECONDS
    ),
)
_VARIED = (
    "INSERT INTO inbox (id, path) VALUES (2, CAST('/srv/scans/second' AS BLOB))",
    "UPDATE folder SET inbox_id = 2 WHERE id % 3 = 0",
    "INSERT INTO reason (id, text) VALUES (1, 'the image is truncated'), (2, 'not an image')",
    """
    INSERT INTO model (id, weights_sha256, name, version, engine, precision, device, classes, why,
                       first_used_us, positive, threshold, uncertain_low, uncertain_high, series_rule)
    SELECT 2, 'cd' || substr(weights_sha256, 3), 'second-mri', version, engine, precision, device, classes,
           why, first_used_us, positive, threshold, uncertain_low, uncertain_high, series_rule
    FROM model WHERE id = 1
    """,
    "UPDATE result SET status = 1 WHERE status = 0 AND score BETWEEN 0.57 AND 0.63",
    """
    UPDATE result SET status = 3, label_id = NULL, confidence = NULL, score = NULL, reason_id = 1 + id % 2
    WHERE id % 400 = 7
    """,
    "UPDATE result SET model_id = 2 WHERE id % 5 = 0",
    "UPDATE result SET series_id = NULL, position = NULL WHERE (series_id / 2) % 2 = 0",
    "DELETE FROM series_verdict WHERE (series_id / 2) % 2 = 0",
    # Spread over a year, so that days narrow something down.
    "UPDATE result SET completed_us = :first - 27000000000000 + (completed_us - :first) * 315",
    *_TALLIES,
)


def fill(database: Path, rows: int, series: int) -> None:
    """Write the rows by SQL, as the ledger would leave them."""
    series_scale.fill(database, rows, series)
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;")
        for statement in _VARIED:
            connection.execute(statement, {"first": series_scale.FIRST_US})
        connection.commit()
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
