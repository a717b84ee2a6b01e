"""An inbox that goes away in a backlog, and workers that are killed while they work and while they start."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.harness.troubles.support import put, told, until_rows
from tests.support.daemons import Daemon, bt_daemon, count, running, until

_BACKLOG = 1_200
_AWAY_AFTER = 384
_AWAY_SECONDS = 5.0
_IN_A_ROW = 6
_KILLED_AMONG = 3_000
_KILLS = 60


def _inbox_away(folder: Path) -> dict[str, Any]:
    inbox, database = folder / "inbox", folder / "results.db"
    inbox.mkdir()
    put(inbox, range(_BACKLOG))
    with running(inbox, database=database) as daemon:
        until(lambda: count(database) >= _AWAY_AFTER)
        inbox.rename(folder / "inbox.away")
        time.sleep(_AWAY_SECONDS)
        meanwhile = count(database)
        (folder / "inbox.away").rename(inbox)
        seconds = until_rows(daemon, _BACKLOG)
        return {"rows_while_away": meanwhile, "seconds_until_all": seconds, **_ended(daemon, _BACKLOG)}


def _lanes_killed(folder: Path) -> dict[str, Any]:
    inbox, database = folder / "inbox", folder / "results.db"
    inbox.mkdir()
    with running(inbox, database=database) as daemon:
        put(inbox, range(20))
        until_rows(daemon, 20)
        for _ in range(_IN_A_ROW):
            until(lambda: _workers(daemon))
            _workers(daemon)[0].kill()
            time.sleep(0.05)
        put(inbox, range(20, 40))
        recovered = until_rows(daemon, 40)
        put(inbox, range(40, _KILLED_AMONG))
        kills = _kill_one_a_second(daemon)
        meanwhile = count(database)
        rest = until_rows(daemon, _KILLED_AMONG)
        status = json.loads(bt_daemon("status", "--json", "--db", database).stdout)
        return {
            "seconds_after_six_in_a_row": recovered, "kills": kills, "rows_while_killed": meanwhile,
            "seconds_for_the_rest": rest,
            "lane_restarts": status["reported"]["lane_restarts"], **_ended(daemon, _KILLED_AMONG),
        }  # fmt: skip


def _kill_one_a_second(daemon: Daemon) -> int:
    """Kill a worker every second, each in its turn, working or starting; return how many were killed."""
    kills = 0
    while kills < _KILLS and count(daemon.database) < _KILLED_AMONG:
        time.sleep(1.0)
        if found := _workers(daemon):
            found[kills % len(found)].kill()
            kills += 1
    return kills


def _workers(daemon: Daemon) -> list[psutil.Process]:
    children = psutil.Process(daemon.process.pid).children()
    return [one for one in children if "daemon.workers.worker_main" in one.cmdline()]


def _ended(daemon: Daemon, images: int) -> dict[str, Any]:
    """Stop the daemon and count, errors too: every image here is a good one."""
    alive = daemon.process.poll() is None
    counted = told(daemon, images)
    connection = sqlite3.connect(daemon.database)
    (errors,) = connection.execute("SELECT count(*) FROM result WHERE status = 3").fetchone()
    connection.close()
    lost, doubled = images - counted["files"], counted["rows"] - counted["files"]
    return {**counted, "alive": alive, "lost": lost, "doubled": doubled, "good_images_as_errors": errors}


TROUBLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "inbox-away": _inbox_away,
    "lanes-killed": _lanes_killed,
}
