"""Paths that are longer than an index of PostgreSQL's holds, and the longest reason."""

from __future__ import annotations

import os
import random

import pytest

from storage.queries.history import story
from storage.queries.results import rows
from storage.records import FailureKind, Outcome
from tests.support.databases import Target
from tests.support.ledgers import TUMOUR, open_store

pytestmark = pytest.mark.databases


def test_folder_and_reason_of_any_length_are_stored_once_and_found(database: Target) -> None:
    drawn = random.Random(1)  # nothing that a server could compress
    folder = b"/".join(drawn.randbytes(120).hex().encode() for _ in range(16))
    reason = "".join(chr(drawn.randrange(0x10000, 0x30000)) for _ in range(2_000))
    store = open_store(database)
    good, bad = store.ledger.add([store.version(name, folder) for name in (b"good.png", b"bad.png")])
    store.ledger.record([Outcome(good.file_id, TUMOUR)], store.model_id)
    for _ in range(2):
        store.fail(bad, FailureKind.PERMANENT, reason)
    store.close()

    again = open_store(database)
    try:
        assert again.ledger.unknown([again.version(b"good.png", folder)]) == []
        (kept,) = {row.reason for row in rows(again.connection)} - {None}
        assert kept is not None
        assert reason.startswith(kept)
        assert len(kept.encode()) >= 2_000
        assert story(again.connection, os.path.join(b"/inbox", folder, b"good.png"))
        counted = "SELECT (SELECT count(*) FROM folder), (SELECT count(*) FROM reason)"
        assert tuple(again.connection.exec_driver_sql(counted).one()) == (1, 1)
    finally:
        again.close()
