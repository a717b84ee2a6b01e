"""The daemon's loop over real folders, a real database and real lanes, turned by hand."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from daemon.phantom import phantom
from daemon.service import Service
from daemon.session import open_service
from daemon.wakeup import Waker
from tests.daemon_support import count

_PATIENCE_SECONDS = 60.0


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


def _fill(inbox: Path, number: int, start: int = 0) -> None:
    """Write so many images; they differ, so that none is another's twin."""
    picture = phantom(1, lesion=True, size=64, label=False)
    for place in range(start, start + number):
        picture.putpixel((place % 64, place // 64 % 64), 200)
        picture.save(inbox / f"{place:05}.png")


@contextmanager
def _service(*inboxes: Path, database: Path, once: bool = False, **settings: Any) -> Iterator[Service]:
    """A service that nobody runs: the test takes its steps."""
    waker = Waker()
    chosen = Settings(
        db=str(database),
        cache=os.environ["BT_CACHE"],  # compiled once for all tests
        **{"lanes": 1, "settle_seconds": 0.01, **settings},
    )
    roots = [inbox.resolve() for inbox in inboxes]
    try:
        with open_service(chosen, roots, logging.getLogger("bt-daemon"), waker, once=once) as service:
            yield service
    finally:
        waker.close()


def _step_until(service: Service, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, service.counters
        service.step(min(service._patience() or 0.0, 0.05))


def _step_for(service: Service, seconds: float) -> None:
    end = time.monotonic() + seconds
    _step_until(service, lambda: time.monotonic() >= end)


@pytest.mark.defects(2)
def test_what_was_queued_when_its_inbox_went_away_is_judged_when_it_is_back(
    inbox: Path, database: Path, tmp_path: Path
) -> None:
    _fill(inbox, 300)
    away = tmp_path / "inbox.away"

    with _service(inbox, database=database) as service:
        _step_until(service, lambda: count(database) > 0)
        inbox.rename(away)
        _step_for(service, 1.5)
        meanwhile = count(database)
        away.rename(inbox)
        _step_until(service, lambda: count(database) >= 300)

    assert 0 < meanwhile < 300
    assert count(database) == count(database, "SELECT count(DISTINCT file_id) FROM result") == 300
    assert count(database, "SELECT count(*) FROM result WHERE status = 3") == 0


@pytest.mark.defects(2)
def test_an_inbox_that_is_away_holds_up_no_other(inbox: Path, database: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    _fill(inbox, 200)

    with _service(inbox, other, database=database) as service:
        _step_until(service, lambda: service.waiting > 0)
        inbox.rename(tmp_path / "inbox.away")
        _step_for(service, 1.2)
        before = count(database)
        _fill(other, 3, start=500)
        _step_until(service, lambda: count(database) >= before + 3)


@pytest.mark.defects(2)
def test_a_file_that_could_not_be_opened_while_its_inbox_was_away_is_no_attempt(
    inbox: Path, database: Path, tmp_path: Path
) -> None:
    """An unmounted network folder answers with an I/O error rather than with "no such file"."""
    from storage.records import Failed, FailureKind, Outcome

    _fill(inbox, 1)
    with _service(inbox, database=database) as service:
        _step_until(service, lambda: service.waiting > 0)
        (file_id,) = service._in_flight
        inbox.rename(tmp_path / "inbox.away")
        failed = Failed(FailureKind.TRANSIENT, "cannot be read (Stale file handle)")
        service._outcomes = [Outcome(file_id, failed)]
        service._store()

    assert count(database, "SELECT count(*) FROM attempt") == 0
    assert count(database, "SELECT count(*) FROM file WHERE state = 0 AND attempts = 0") == 1


@pytest.mark.defects(2)
def test_once_ends_with_1_and_says_what_is_left_when_an_inbox_stays_away(
    inbox: Path, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import daemon.service
    from daemon.wakeup import StopSignal

    monkeypatch.setattr(daemon.service, "ONCE_AWAY_SECONDS", 1.5)
    _fill(inbox, 300)
    with _service(inbox, database=database, once=True) as service, StopSignal(service.waker) as stop:
        _step_until(service, lambda: count(database) > 0)
        inbox.rename(tmp_path / "inbox.away")
        began = time.monotonic()
        service.run(stop, once=True)
        waited = time.monotonic() - began
        left = service.left_behind()

    assert left is not None
    assert waited >= 1.5
    assert left.exit_code == 1
    assert f"{300 - count(database)} images wait there" in left.what


@pytest.mark.defects(2)
def test_once_waits_for_an_inbox_that_comes_back(inbox: Path, database: Path, tmp_path: Path) -> None:
    from daemon.wakeup import StopSignal

    _fill(inbox, 300)
    away = tmp_path / "inbox.away"

    class Returning:
        """Brings the inbox back a moment after the daemon has noticed that it is gone."""

        def turned(self, service: Service) -> None:
            if away.exists() and service.inboxes[0].health().state == "degraded":
                away.rename(inbox)

    with _service(inbox, database=database, once=True) as service, StopSignal(service.waker) as stop:
        _step_until(service, lambda: count(database) > 0)
        inbox.rename(away)
        service.watchers = [*service.watchers, Returning()]
        service.run(stop, once=True)

    assert count(database) == 300


@pytest.mark.defects(2)
def test_a_folder_that_vanishes_during_the_only_scan_is_looked_for_again(inbox: Path, database: Path) -> None:
    """A root that is away for less than the daemon takes to notice must not end `--once` early."""
    from daemon.scan import Walk

    for name in ("a", "b"):
        (inbox / name).mkdir()
        _fill(inbox / name, 3)
    hidden = inbox.with_name("hidden")
    step = Walk.piece
    calls = []

    def piece(walk: Walk, limit: int) -> Any:
        calls.append(walk)
        if len(calls) > 1:
            return step(walk, limit)
        inbox.rename(hidden)
        found = step(walk, limit)
        hidden.rename(inbox)
        return found

    patch = pytest.MonkeyPatch()
    patch.setattr(Walk, "piece", piece)
    try:
        with _service(inbox, database=database, once=True) as service:
            _step_until(service, service.drained)
    finally:
        patch.undo()

    assert count(database) == 6
