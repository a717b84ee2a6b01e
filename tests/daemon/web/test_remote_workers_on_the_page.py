"""The first page and the metrics tell of workers on other machines while the daemon lives."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemon.views.worker_status import remote_worker_facts, remote_workers
from storage.database import open_writer, writing
from storage.ledger.heartbeat import Heartbeat, store_heartbeat
from storage.lock import DatabaseLock
from tests.daemon.web.test_health_endpoints import served, value
from tests.support.stored_results import Store

_NOW_US = 1_800_000_000_000_000


def _told(now_us: int) -> dict[str, Any]:
    joined = {"name": "node<b>1</b>:7", "lanes": 4, "images_per_second": 120.5, "refused": ""}
    refused = {"name": "node2:9", "lanes": 0, "images_per_second": 0.0, "refused": "its engine is torch"}
    heard = {"heard_us": now_us - 2_000_000}
    return {"remote_workers": [joined | heard, refused | heard]}


def test_a_worker_is_told_in_words_and_in_figures() -> None:
    told = _told(_NOW_US)

    assert remote_worker_facts(told, _NOW_US) == [
        ("node<b>1</b>:7", "4 lanes, 120.5 images/s, heard of 2 s ago"),
        ("node2:9", "refused 2 s ago: its engine is torch"),
    ]
    assert [one["last_heard_seconds"] for one in remote_workers(told, _NOW_US)] == [2.0, 2.0]
    assert remote_workers({}, _NOW_US) == remote_workers({"remote_workers": "?"}, _NOW_US) == []


@pytest.mark.slow
def test_page_and_metrics_tell_of_workers_of_a_living_daemon_only(tmp_path: Path, engine_cache: Path) -> None:
    store = Store(tmp_path / "r.db", tmp_path / "inbox")
    now_us = time.time_ns() // 1000
    with closing(open_writer(store.path)) as connection, writing(connection):
        beat = Heartbeat("host", os.getpid(), now_us - 60_000_000, now_us, None, _told(now_us))
        store_heartbeat(connection, beat)

    with served(store.path, engine_cache) as server:
        dead = server.ask("/").text
        assert "btdaemon_remote_" not in server.ask("/metrics").text
        with DatabaseLock(store.file):
            alive = server.ask("/").text
            metrics = server.ask("/metrics").text

    assert "Workers on other machines" not in dead
    assert "Workers on other machines" in alive
    assert "node&lt;b&gt;1&lt;/b&gt;:7" in alive
    assert "its engine is torch" in alive
    assert value(metrics, "btdaemon_remote_workers", state="joined") == 1
    assert value(metrics, "btdaemon_remote_workers", state="refused") == 1
    assert value(metrics, "btdaemon_remote_lanes") == 4
    assert value(metrics, "btdaemon_remote_images_per_second") == 120.5
    assert 2 <= value(metrics, "btdaemon_remote_last_heard_seconds") < 60
    assert "node" not in "".join(line for line in metrics.splitlines() if "remote" in line)
