"""The daemon's loop over real folders, a real database and real workers, turned by hand."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from daemon.service.compose import open_service
from daemon.service.service import Service
from daemon.service.signals import Waker
from storage.records import Judged, Outcome, Status
from tests.support.daemons import bt_daemon, count
from trainer.images.phantom import phantom

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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.defects(2)
def test_a_file_that_could_not_be_opened_while_its_inbox_was_away_is_no_attempt(
    inbox: Path, database: Path, tmp_path: Path
) -> None:
    """An unmounted network folder answers with an I/O error rather than with "no such file"."""
    from storage.records import Failed, FailureKind

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


@pytest.mark.slow
@pytest.mark.defects(2)
def test_once_ends_with_1_and_says_what_is_left_when_an_inbox_stays_away(
    inbox: Path, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import daemon.service.service
    from daemon.service.signals import StopSignal

    monkeypatch.setattr(daemon.service.service, "ONCE_AWAY_SECONDS", 1.5)
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


@pytest.mark.slow
@pytest.mark.defects(2)
def test_once_waits_for_an_inbox_that_comes_back(inbox: Path, database: Path, tmp_path: Path) -> None:
    from daemon.service.signals import StopSignal

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


@pytest.mark.slow
@pytest.mark.defects(2)
def test_a_folder_that_vanishes_during_the_only_scan_is_looked_for_again(inbox: Path, database: Path) -> None:
    """A root that is away for less than the daemon takes to notice must not end `--once` early."""
    from daemon.inbox.scan import Walk

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


@pytest.mark.defects(31)
def test_an_attempt_that_failed_is_no_error_once_the_file_is_judged(inbox: Path, database: Path) -> None:
    """What the run counts is what the database holds: errors are error rows."""
    _fill(inbox, 3)
    (inbox / "text.png").write_text("no image")
    whole = (inbox / "00000.png").read_bytes()
    (inbox / "late.png").write_bytes(whole[:-300])

    with _service(inbox, database=database, deadline_seconds=600.0) as service:
        _step_until(service, lambda: count(database, "SELECT count(*) FROM attempt") == 2)
        (inbox / "late.png").write_bytes(whole)
        _step_until(service, lambda: count(database) == 5)
        counters = service.counters

    assert (counters.judged, counters.failed) == (4, 1)
    assert counters.failed == count(database, "SELECT count(*) FROM result WHERE status = 3")


@pytest.mark.defects(31)
def test_an_error_that_was_retried_and_judged_is_no_error_any_more(inbox: Path, database: Path) -> None:
    _fill(inbox, 1)
    (inbox / "text.png").write_text("no image")

    with _service(inbox, database=database) as service:
        _step_until(service, lambda: count(database) == 2)
        before = service.counters.failed
        service.ledger.requeue()
        _fill(inbox, 1, start=7)
        entry = next(one for one in service.ledger.due(10, service.clock.now_us()))
        with service.ledger.transaction():
            states = service.ledger.record([Outcome(entry.file_id, Judged(Status.OK, "no", 0.9))], 1)
        service._in_flight[entry.file_id] = entry
        service._report([Outcome(entry.file_id, Judged(Status.OK, "no", 0.9))], states)

    assert (before, service.counters.failed) == (1, 0)


@pytest.mark.slow
def test_the_last_line_of_the_log_agrees_with_the_database(inbox: Path, database: Path) -> None:
    _fill(inbox, 2)
    for number in range(3):
        (inbox / f"text{number}.png").write_text(f"no image {number}")
    (inbox / "notes.txt").write_text("a sidecar")

    done = bt_daemon("watch", inbox, "--once", "--lanes", "1", "--db", database)
    status = bt_daemon("status", "--db", database).stdout

    assert done.stderr.splitlines()[-1].partition("done: ")[2].startswith("2 images judged, 3 errors")
    assert "text0.png: not judged: " in done.stderr
    assert "1 passed over (1 .txt)" in done.stderr
    assert "5 (" in status
    assert "3 error" in status
    assert "1 .txt" in status


@pytest.mark.slow
def test_an_image_judged_by_another_model_only_is_named_with_what_judges_it_again(
    inbox: Path, database: Path
) -> None:
    from contextlib import closing

    from storage.database import open_writer
    from storage.ledger.ledger import Ledger
    from storage.records import ModelRecord

    _fill(inbox, 2)
    first = bt_daemon("watch", inbox, "--once", "--lanes", "1", "--db", database)
    with closing(open_writer(database)) as connection:
        ledger = Ledger(connection)
        other = ledger.model_id(ModelRecord("ab" * 32, "mine", "1", "openvino", "fp32", "cpu", ("no", "yes")))
        of_other, of_first = ledger.judged_by_others(other), ledger.judged_by_others(1)
    altered = sqlite3.connect(database)
    altered.execute("UPDATE result SET model_id = ?", (other,))
    altered.commit()
    altered.close()
    second = bt_daemon("watch", inbox, "--once", "--lanes", "1", "--db", database)

    assert "--reclassify" not in first.stderr
    assert (of_other, of_first) == (2, 0)
    assert "2 images judged by another model only; --reclassify judges them" in second.stderr
