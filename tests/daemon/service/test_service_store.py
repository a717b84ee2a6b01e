"""The daemon's loop goes on after a query that failed in passing, also where nothing waits to be stored."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import pytest

from daemon.service.service import Service
from storage.database_errors import DatabaseUnavailableError
from tests.support.ledgers import open_store


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def now_us(self) -> int:
        return int(self.now * 1e6)


class _Idle:
    """Workers and waker with nothing to do."""

    trouble = ""

    def wait(self, waitables: list[Any], timeout: float | None) -> None:
        pass

    def waitables(self) -> list[Any]:
        return []

    def collect(self) -> list[Any]:
        return []

    def room(self, waiting: int) -> int:
        return 0


@pytest.mark.defects(8)
def test_a_question_that_failed_in_passing_is_asked_again_though_nothing_waits_to_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clock, idle = open_store(tmp_path / "results.db"), _Clock(), cast("Any", _Idle())
    service = Service(
        store.ledger, [], idle, store.model_id, idle, clock, logging.getLogger("bt-daemon.test")
    )
    asked = store.ledger.changed_elsewhere

    def fails() -> bool:
        monkeypatch.setattr(store.ledger, "changed_elsewhere", asked)
        raise DatabaseUnavailableError("could not be read")

    monkeypatch.setattr(store.ledger, "changed_elsewhere", fails)

    service.step()
    during = service.trouble
    clock.now = 5.0
    service.step()

    assert during == "could not be read"
    assert service.trouble == ""
    store.close()
