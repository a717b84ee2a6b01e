"""The thread that tells: beside the real loop, and of the real daemon."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from daemon.notify import notifier as module
from daemon.notify.notifier import Notifier
from daemon.notify.receivers import Webhook
from daemon.notify.result_rule import ResultRule
from daemon.service.compose import open_service
from daemon.service.service import Service
from daemon.service.signals import Waker
from storage.records import Failed, FailureKind
from tests.support.daemons import bt_daemon, count, running, until
from tests.support.dicom_objects import CANARY_WORDS, mr_slice
from tests.support.stored_results import Store, judged
from tests.support.webhooks import Webhooks, webhooks
from trainer.images.phantom import phantom

CANARY = "Zanzibarra"
LOGGER = logging.getLogger("bt-daemon")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / f"{CANARY}.db", tmp_path / f"inbox-{CANARY}")
    store.put([(f"{CANARY}/before.png".encode(), judged("yes", 0.99, score=0.99))])
    return store


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)


@contextmanager
def telling(store: Store, hooks: Webhooks, *rules: ResultRule, ping: str = "") -> Iterator[Notifier]:
    with Notifier(store.path, [Webhook(hooks.address, 0.5)], ping, rules, LOGGER) as notifier:
        yield notifier


def test_results_of_a_class_are_told_with_score_and_row_and_no_name(store: Store) -> None:
    tags = {"PatientName": f"{CANARY}^Ann"}
    with webhooks() as hooks:
        with telling(store, hooks, ResultRule("yes", 0.9)):
            store.put([(f"{CANARY}.png".encode(), judged("yes", 0.8, score=0.8))])
            (first,) = store.put([(f"{CANARY}1.png".encode(), judged("yes", 0.95, score=0.95, tags=tags))])
            until(lambda: "result" in hooks.events)
            ids = store.put([(f"{CANARY}{n}.png".encode(), judged("yes", 0.97)) for n in range(2, 102)])
            store.put([(b"no.png", judged("no", 0.99, score=0.01))])
        told = [one for one in hooks.told if one["event"] == "result"]

    # The second comes with the end: within the minute nothing else is said of the class.
    assert [one["details"]["count"] for one in told] == [1, 100]
    assert told[0]["details"] == {
        "class": "yes", "confidence": 0.95, "score": 0.95, "status": "ok", "id": first, "count": 1,
    }  # fmt: skip
    assert told[1]["details"]["id"] == ids[-1]
    assert CANARY not in str(hooks.bodies)
    assert str(store.file.parent) not in str(hooks.bodies)


def test_quarantined_files_are_told_with_their_number_alone(store: Store) -> None:
    with webhooks() as hooks, telling(store, hooks):
        bad = Failed(FailureKind.PERMANENT, f"no {CANARY}")
        store.put([(f"{CANARY}-bad-{n}.png".encode(), bad) for n in range(3)])
        until(lambda: "quarantine" in hooks.events)

    told = [one["details"] for one in hooks.told if one["event"] == "quarantine"]
    assert sum(one["count"] for one in told) == 3
    assert told[-1]["quarantined"] == 3
    assert CANARY not in str(hooks.bodies)


def test_an_end_by_an_error_is_told(store: Store) -> None:
    with webhooks() as hooks, pytest.raises(ValueError, match=CANARY), telling(store, hooks):
        raise ValueError(CANARY)

    assert hooks.told[-1]["event"] == "down"
    assert hooks.told[-1]["details"]["causes"] == ["died"]
    assert CANARY not in str(hooks.bodies)


def test_end_does_not_wait_for_a_receiver_that_hangs(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FINISH_SECONDS", 0.5)
    with webhooks() as hooks, caplog.at_level(logging.WARNING):
        hooks.answer = 0
        told = Notifier(store.path, [Webhook(hooks.address, 30)], "", [ResultRule("yes")], LOGGER)
        with told:
            store.put([(b"x.png", judged("yes", 0.95))])
            until(lambda: hooks.asked)
            began = time.monotonic()
        ended = time.monotonic() - began
        hooks.released.set()
        until(lambda: not told._thread.is_alive())

    assert ended < 2
    assert "does not wait" in caplog.text


def test_a_receiver_that_hangs_holds_up_no_other(store: Store) -> None:
    with webhooks() as hanging, webhooks() as working:
        hanging.answer = 0
        to = [Webhook(hanging.address, 0.5), Webhook(working.address, 0.5)]
        with Notifier(store.path, to, "", [ResultRule("yes")], LOGGER):
            store.put([(b"x.png", judged("yes", 0.95))])
            until(lambda: "result" in working.events, 10)
        hanging.released.set()


def test_ping_of_a_database_without_a_living_daemon_is_silence(store: Store) -> None:
    with webhooks() as hooks, telling(store, hooks, ping=hooks.address):
        time.sleep(0.5)

    assert [path for method, path in hooks.asked if method == "GET"] == []


@contextmanager
def service(inbox: Path, database: Path, **settings: Any) -> Iterator[Service]:
    """A service that nobody runs: the test takes its steps."""
    waker = Waker()
    chosen = Settings(
        db=str(database), cache=os.environ["BT_CACHE"], lanes=1, settle_seconds=0.01, **settings
    )
    try:
        with open_service(chosen, [inbox.resolve()], LOGGER, waker, once=False) as opened:
            yield opened
    finally:
        waker.close()


@pytest.mark.slow
def test_a_receiver_that_hangs_holds_no_turn_of_the_loop_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every turn that stores and hands out is over long before the receiver's time-out of 10 s."""
    monkeypatch.setattr(module, "FINISH_SECONDS", 0.2)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with webhooks() as hooks:
        hooks.answer = 0
        with service(
            inbox, tmp_path / "r.db", notify=(hooks.address,), ping=hooks.address, notify_when=("yes", "no")
        ) as opened:
            turns = []
            for number in range(60):
                phantom(number, lesion=number % 2 == 0, size=64).save(inbox / f"{number}.png")
            deadline = time.monotonic() + 60
            while opened.counters.judged + opened.counters.failed < 60 or not hooks.asked:
                assert time.monotonic() < deadline
                began = time.monotonic()
                opened.step(0.01)
                turns.append(time.monotonic() - began)
        hooks.released.set()
        time.sleep(0.2)

    assert opened.counters.judged == 60
    assert max(turns) < 2, sorted(turns)[-5:]


@pytest.mark.slow
def test_inbox_that_goes_away_and_comes_back_is_told_and_pinged(tmp_path: Path) -> None:
    inbox = tmp_path / f"inbox-{CANARY}"
    inbox.mkdir()
    database = tmp_path / "results.db"
    for number in range(4):
        mr_slice(number).save_as(inbox / f"{CANARY}-{number}.dcm", enforce_file_format=True)
    with webhooks() as hooks:
        arguments = ["--notify", hooks.address, "--ping", f"http://127.0.0.1:{hooks.port}/ping"]
        arguments += ["--notify-when", "yes,no", "--settle", "100ms", "--lanes", "1"]
        with running(inbox, *arguments, database=database) as daemon:
            until(lambda: count(database) == 4)
            until(lambda: ("GET", "/ping") in hooks.asked)
            inbox.rename(tmp_path / "away")
            until(lambda: "degraded" in hooks.events)
            until(lambda: ("GET", "/ping/fail") in hooks.asked)
            (tmp_path / "away").rename(inbox)
            until(lambda: "recovered" in hooks.events)
            (inbox / f"{CANARY}.png").write_bytes(b"no image")
            until(lambda: "quarantine" in hooks.events)
            assert daemon.stop() == 0
        log = daemon.log.read_text()

    health = [one for one in hooks.told if one["event"] in ("degraded", "recovered", "down")]
    assert [one["event"] for one in health] == ["degraded", "recovered"]
    assert health[0]["details"]["causes"] == ["inbox_degraded"]
    results = [one["details"] for one in hooks.told if one["event"] == "result"]
    assert sum(one["count"] for one in results) == 4
    sent = str(hooks.bodies) + str(hooks.headers)
    assert not [word for word in (CANARY, *CANARY_WORDS, str(tmp_path)) if word in sent]
    assert "secret" not in log


@pytest.mark.slow
def test_daemon_whose_receiver_hangs_judges_and_stops_in_time(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    database = tmp_path / "results.db"
    with webhooks() as hooks:
        hooks.answer = 0
        arguments = ["--notify", hooks.address, "--notify-when", "yes,no", "--settle", "100ms"]
        with running(inbox, *arguments, database=database) as daemon:
            for number in range(20):
                phantom(number, lesion=True, size=64).save(inbox / f"{number}.png")
            until(lambda: count(database) == 20)
            until(lambda: hooks.asked)
            began = time.monotonic()
            assert daemon.stop(signal.SIGTERM) == 0

    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_bad_address_or_class_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    database = tmp_path / "r.db"
    for options in (
        ("--notify", "nowhere"),
        ("--notify", "http://127.0.0.1:1/x", "--notify-when", "maybe:0.9"),
    ):
        done = bt_daemon("watch", tmp_path / "inbox", "--once", "--db", database, *options)
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
