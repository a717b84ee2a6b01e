"""`/healthz`, `/readyz`, `/metrics`: the real server beside a real daemon, dead, stopped and in trouble."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from daemon.views.health_check import HealthCause
from daemon.web.exposition import Metric, exposition
from daemon.web.guard import Guard, Rules
from storage.database import open_writer, writing
from storage.ledger.heartbeat import Heartbeat, store_heartbeat
from storage.records import Failed, FailureKind, Status
from storage.schema import heartbeat
from tests.daemon.web.test_guard import TOKEN, _nothing, asked, guarded
from tests.daemon.web.test_web import Server, _served, _stopped
from tests.support.daemons import Daemon, count, running, until
from tests.support.databases import Target, daemon_lock_held, is_server
from tests.support.stored_results import Store, judged, run_piped
from trainer.images.phantom import phantom

# What an operator is promised: so soon trouble is told, and that it is over.
PROMISED_SECONDS = 20.0
CANARY = "Zanzibarra"


@contextmanager
def served(database: Target, cache: Path, *options: str) -> Iterator[Server]:
    server = _served(database, cache, *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            _stopped(server)


def samples(text: str) -> dict[str, list[Sample]]:
    """Return what Prometheus' own parser reads, by the sample's name."""
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def value(text: str, name: str, **labels: str) -> float:
    """Return the value of one sample."""
    (found,) = [one.value for one in samples(text)[name] if one.labels == labels]
    return float(found)


@pytest.fixture
def canary_store(database: Target, tmp_path: Path) -> Store:
    """Results whose inbox, folders, names, tags and reasons all hold one word."""
    store = Store(database, tmp_path / f"inbox-{CANARY}")
    tags = {"PatientName": f"{CANARY}^Ann", "StudyInstanceUID": CANARY}
    store.put([(f"{CANARY}/{CANARY} {n}.dcm".encode(), judged(tags=tags)) for n in range(3)])
    store.put([(f"{CANARY}.png".encode(), Failed(FailureKind.PERMANENT, f"no {CANARY}"))])
    store.put([(b"doubt.png", judged("no", 0.6, Status.UNCERTAIN))])
    now_us = time.time_ns() // 1000
    inbox = {
        "path": str(store.inbox),
        "state": "degraded",
        "why": f"{CANARY} is away",
        "last_scan_us": now_us,
    }
    snapshot: dict[str, Any] = {
        "inboxes": [inbox, inbox | {"state": "watching"}],
        "engine": {"name": "openvino", "precision": "bf16", "device": "cpu", "why": CANARY},
        "model": {"name": CANARY, "version": CANARY, "weights_sha256": "a1b2c3d4" * 8},
        "results": [["ok", "yes", 3], ["error", "", 1], ["uncertain", "no", 1]],
        "workers": {"wanted": 2, "ready": 2, "stuck": 0},
        "counters": {"store_failures": 4},
        "lane_restarts": 1,
        "trouble": f"the database {CANARY}.db cannot grow",
        "last_error": f"{CANARY}.png: Permission denied",
        "drift": {"findings": {"score": {"state": "drift", "images": 700, "index": 0.5}}},
    }
    with closing(open_writer(store.path)) as connection, writing(connection):
        beat = Heartbeat(CANARY, 1, now_us - 60_000_000, now_us, None, snapshot)
        store_heartbeat(connection, beat)
    return store


def test_exposition_is_read_back_as_it_was_meant() -> None:
    odd = 'quotes " and \\ and \n lines'
    told = [
        Metric("a_total", "Help with \\ and \n in it.", "counter").add(3, **{"class": odd}),
        Metric("b", "Not known.").add(None),
        Metric("c", "Numbers.").add(1e-7, k="small").add(float("inf"), k="most").add(1 << 60, k="large"),
    ]

    text = exposition(told)

    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families.keys() == {"a", "c"}
    assert families["a"].documentation == "Help with \\ and \n in it."
    assert value(text, "a_total", **{"class": odd}) == 3
    assert value(text, "c", k="small") == 1e-7
    assert value(text, "c", k="most") == float("inf")
    assert value(text, "c", k="large") == 1 << 60


@pytest.mark.slow
@pytest.mark.databases
def test_metrics_of_a_dead_daemon_are_read_by_prometheus_and_name_nothing(
    canary_store: Store, engine_cache: Path
) -> None:
    with served(canary_store.path, engine_cache) as server:
        answers = [server.ask(path) for path in ("/metrics", "/healthz", "/readyz")]

    metrics, alive, ready = (answer.text for answer in answers)
    assert [answer.status for answer in answers] == [200, 503, 503]
    assert alive.splitlines() == ["down", "died: the daemon ended without saying goodbye"]
    assert ready == alive
    assert CANARY.lower() not in f"{metrics}{alive}".lower()
    assert answers[0].headers["content-type"].startswith("text/plain; version=0.0.4")
    assert value(metrics, "btdaemon_up") == 0
    assert value(metrics, "btdaemon_results_total", status="ok", **{"class": "yes"}) == 3
    assert value(metrics, "btdaemon_stored_results", status="uncertain", **{"class": "no"}) == 1
    assert value(metrics, "btdaemon_quarantined") == 1
    assert value(metrics, "btdaemon_inbox_state", state="degraded") == 1
    assert value(metrics, "btdaemon_store_failures_total") == 4
    assert value(metrics, "btdaemon_drift", statistic="score") == 1
    if is_server(canary_store.path):  # whose disk is not ours
        assert "btdaemon_disk" not in metrics
    else:
        assert 0 < value(metrics, "btdaemon_disk_free_bytes") < value(metrics, "btdaemon_disk_size_bytes")
    assert 0 <= value(metrics, "btdaemon_heartbeat_age_seconds") < 60


@pytest.mark.slow
@pytest.mark.databases
def test_a_degraded_daemon_is_alive_and_not_ready_and_says_why_without_a_name(
    canary_store: Store, engine_cache: Path
) -> None:
    with closing(open_writer(canary_store.path)) as connection, writing(connection):
        connection.execute(heartbeat.update().values(pid=os.getpid()))
    with daemon_lock_held(canary_store.path), served(canary_store.path, engine_cache) as server:
        answers = [server.ask(path) for path in ("/healthz", "/readyz", "/metrics", "/api/status", "/live")]

    alive, ready, metrics, api, page = answers
    assert [answer.status for answer in answers] == [200, 503, 200, 200, 200]
    assert "<strong>degraded</strong>: inbox " in page.text
    assert "score: drift (index 0.50)" in page.text
    assert alive.text == ready.text
    assert CANARY.lower() not in f"{alive.text}{metrics.text}".lower()
    lines = alive.text.splitlines()
    assert lines[0] == "degraded"
    assert [line.split(":")[0] for line in lines[1:]] == ["inbox_degraded", "not_stored"]
    assert api.json()["health"] == "degraded"
    assert CANARY in json.dumps(api.json()["reasons"])  # the operator's own page names what it is about
    assert value(metrics.text, "btdaemon_health", state="degraded") == 1
    reasons = {one.labels["reason"]: one.value for one in samples(metrics.text)["btdaemon_health_reason"]}
    assert {name for name, holds in reasons.items() if holds} == {"inbox_degraded", "not_stored"}
    assert reasons.keys() == {cause.value for cause in HealthCause}


@pytest.mark.slow
def test_without_a_database_and_with_a_damaged_one_all_three_answer(
    tmp_path: Path, engine_cache: Path
) -> None:
    database = tmp_path / "r.db"

    with served(database, engine_cache) as server:
        missing = [server.ask(path) for path in ("/healthz", "/readyz", "/metrics")]
        database.write_bytes(b"no database" * 1000)
        damaged = [server.ask(path) for path in ("/healthz", "/readyz", "/metrics")]

    assert [answer.status for answer in missing] == [answer.status for answer in damaged] == [503, 503, 200]
    assert missing[0].text.splitlines()[1].startswith("never_ran: ")
    assert damaged[0].text.splitlines()[1].startswith("database_unreadable: ")
    assert value(damaged[2].text, "btdaemon_up") == 0
    assert value(damaged[2].text, "btdaemon_health_reason", reason="database_unreadable") == 1


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_are_answered_without_a_token_and_by_any_name(path: str) -> None:
    elsewhere = Guard(_nothing, Rules(frozenset({"another.name"}), TOKEN))

    assert asked(elsewhere, path)[0] == 200
    assert asked(elsewhere, f"{path}/")[0] == 421
    assert asked(elsewhere, "/metrics", authorization=f"Bearer {TOKEN}")[0] == 421
    assert asked(guarded(), path)[0] == 200


def test_metrics_need_the_token_as_every_page() -> None:
    guard = guarded()

    assert asked(guard, "/metrics")[0] == 401
    assert asked(guard, "/metrics", authorization=f"Bearer {TOKEN}")[0] == 200


class Watched:
    """A real daemon and the real server beside it, asked until an answer comes."""

    def __init__(self, daemon: Daemon, server: Server) -> None:
        self.daemon, self.server = daemon, server

    def soon(self, path: str, status: int, reason: str = "") -> float:
        """Return the seconds until the path answers so, for that reason; fail after the promised time."""
        began = time.monotonic()

        def answers() -> bool:
            answer = self.server.ask(path)
            return answer.status == status and reason in answer.text

        until(answers, PROMISED_SECONDS)
        return time.monotonic() - began

    def check(self) -> tuple[int, str]:
        """Return what `status --check` says."""
        ran = run_piped("status", "--check", "--db", str(self.daemon.database))
        return ran.returncode, ran.stdout


@contextmanager
def watched(inbox: Path, database: Path, cache: Path, *options: str) -> Iterator[Watched]:
    inbox.mkdir(exist_ok=True)
    log = inbox.parent / "daemon.log"
    with running(inbox, *options, database=database, log=log) as daemon, served(database, cache) as server:
        both = Watched(daemon, server)
        until(lambda: server.ask("/readyz").status == 200)
        yield both


def put(inbox: Path, numbers: range) -> None:
    for number in numbers:
        phantom(number, lesion=bool(number % 2), size=64).save(inbox / f"{number:04}.png")


@pytest.mark.slow
def test_a_daemon_that_is_stopped_is_down_within_twenty_seconds_and_up_again_when_it_goes_on(
    tmp_path: Path, engine_cache: Path
) -> None:
    with watched(tmp_path / "inbox", tmp_path / "r.db", engine_cache) as both:
        both.daemon.process.send_signal(signal.SIGSTOP)
        try:
            both.soon("/healthz", 503, "silent: ")
            assert both.check()[0] == 2
        finally:
            both.daemon.process.send_signal(signal.SIGCONT)
        both.soon("/healthz", 200)
        both.soon("/readyz", 200)


@pytest.mark.slow
def test_an_inbox_that_is_away_is_told_within_twenty_seconds_and_so_is_its_return(
    tmp_path: Path, engine_cache: Path
) -> None:
    inbox = tmp_path / "inbox"
    with watched(inbox, tmp_path / "r.db", engine_cache) as both:
        inbox.rename(tmp_path / "away")
        both.soon("/readyz", 503, "inbox_degraded: ")
        code, line = both.check()
        assert (code, line.startswith(f"degraded: inbox {inbox} is degraded")) == (1, True)
        assert both.server.ask("/healthz").status == 200
        (tmp_path / "away").rename(inbox)
        both.soon("/readyz", 200)


@pytest.mark.slow
def test_a_worker_that_hangs_is_told_within_twenty_seconds_and_so_is_its_recovery(
    tmp_path: Path, engine_cache: Path
) -> None:
    inbox = tmp_path / "inbox"
    with watched(inbox, tmp_path / "r.db", engine_cache, "--lanes", "1", "--decode-timeout", "5min") as both:
        put(inbox, range(3))
        until(lambda: count(both.daemon.database) == 3)
        (worker,) = psutil.Process(both.daemon.process.pid).children()
        worker.suspend()
        try:
            put(inbox, range(3, 6))
            both.soon("/readyz", 503, "worker_stuck: ")
            code, line = both.check()
            assert (code, line) == (1, "degraded: 1 of 1 workers make no progress on their files\n")
            assert value(both.server.ask("/metrics").text, "btdaemon_workers", state="stuck") == 1
        finally:
            worker.resume()
        both.soon("/readyz", 200)
        until(lambda: count(both.daemon.database) == 6)

        def made() -> float:
            found = samples(both.server.ask("/metrics").text)["btdaemon_results_total"]
            return sum(one.value for one in found)

        until(lambda: made() == 6)


@pytest.mark.slow
def test_a_full_disk_is_told_within_twenty_seconds_and_so_is_room_again(
    tmp_path: Path, engine_cache: Path
) -> None:
    inbox, disk = tmp_path / "inbox", tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        with watched(inbox, disk / "r.db", engine_cache) as both:
            put(inbox, range(5))
            until(lambda: count(both.daemon.database) == 5)
            ballast = disk / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))
            put(inbox, range(5, 105))
            both.soon("/readyz", 503, "not_stored: ")
            assert both.check()[0] == 1
            assert value(both.server.ask("/metrics").text, "btdaemon_disk_free_bytes") == 0
            # Longer than a heartbeat may be late: the loop turns all the same, and that is known.
            time.sleep(PROMISED_SECONDS)
            assert both.server.ask("/healthz").status == 200
            both.daemon.process.send_signal(signal.SIGSTOP)
            both.soon("/healthz", 503, "silent: ")
            both.daemon.process.send_signal(signal.SIGCONT)
            ballast.unlink()
            both.soon("/readyz", 200)
            until(lambda: count(both.daemon.database) == 105)
    finally:
        subprocess.run(["umount", "-l", disk], check=False)
