"""Look up results by content hash, so that the same bytes are not inferred twice.

Runs in the lanes, which import neither SQLAlchemy nor anything else that is slow: SQLite alone, and
only ever reading.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from storage.ledger.votes import decoded
from storage.records import Judged, SeriesKeys, Status

# The words and numbers are those of storage.schema, which this module must not import (a test compares);
# of a series only what the file itself says is taken over, not what its path does.
_STATUSES = (Status.OK, Status.UNCERTAIN, Status.REJECTED)
_QUERY = """
    SELECT result.status, label.name, result.confidence, reason.text, slice_index, slice_count, tags, score,
           votes, position, series_key, study_key, patient_key
    FROM result
    LEFT JOIN label ON label.id = result.label_id
    LEFT JOIN reason ON reason.id = result.reason_id
    LEFT JOIN series ON series.id = result.series_id AND series.origin = 1
    WHERE substr(result.sha256, 1, 8) = ?1 AND result.sha256 = ?2 AND result.model_id = ?3
      AND result.sha256 IS NOT NULL AND result.status < 3
    LIMIT 1
"""


class KnownJudgements:
    """Judgements by content under one model; a database that cannot be read just knows nothing."""

    def __init__(self, database: str | os.PathLike[str], model_id: int) -> None:
        """Nothing is opened before the first `find`, so that it may be made before a fork."""
        self._path = Path(database)
        self._model_id = model_id
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> KnownJudgements:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def find(self, shas: Sequence[bytes]) -> dict[bytes, Judged]:
        """Return what is known of the contents with these sha256 digests (32 bytes each).

        Errors are never taken over: what failed is tried anew. Trouble with the database costs an
        inference, never the image: the answer is then empty.
        """
        try:
            connection = self._opened()
            rows = [
                (sha, connection.execute(_QUERY, (sha[:8], sha, self._model_id)).fetchone()) for sha in shas
            ]
        except sqlite3.Error:
            self.close()
            return {}
        return {sha: _judged(row) for sha, row in rows if row is not None}

    def close(self) -> None:
        """Let go of the file; the next `find` opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                f"file:{quote(os.fsencode(self._path))}?mode=ro", uri=True, timeout=1.0, isolation_level=None
            )
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.execute("PRAGMA cache_size = -4000")
        return self._connection


def _judged(row: Sequence[Any]) -> Judged:
    status, label, confidence, reason, slice_index, slice_count, tags, score, votes, position, *keys = row
    named = None if tags is None else json.loads(tags)
    key, study, patient = keys
    series = None if key is None else SeriesKeys(key, study, patient, position)
    counted, rejected = (None, 0) if votes is None else decoded(votes)
    slices = (slice_index, slice_count)
    return Judged(
        _STATUSES[status], label, confidence, reason, *slices, named, score, series, counted, rejected
    )
