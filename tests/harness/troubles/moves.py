"""Moves among trouble: a done folder that is full, moves that cannot be done, a lock right after commits."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness.troubles.support import put, told, until_rows
from tests.support.daemons import bt_daemon, count, running, until

_MOVED = "SELECT count(*) FROM file WHERE move = 2"
_ERRORS = "SELECT count(*) FROM result WHERE status = 3"
_PATIENCE_SECONDS = 180.0


def _full(folder: Path) -> dict[str, Any]:
    """Move to another device that is full, and has room later, with no new image to wake the daemon."""
    inbox, done = folder / "inbox", folder / "disk"
    inbox.mkdir()
    done.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", done], check=True)
    try:
        with running(
            inbox, "--on-done", "move", "--done-dir", done, database=folder / "results.db"
        ) as daemon:
            with contextlib.suppress(OSError), (done / "ballast").open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))
            put(inbox, range(60))
            until_rows(daemon, 60)
            time.sleep(8.0)
            status = json.loads(bt_daemon("status", "--json", "--db", daemon.database).stdout)
            meanwhile = count(daemon.database, _MOVED)
            (done / "ballast").unlink()
            freed = time.monotonic()
            until(lambda: count(daemon.database, _MOVED) == 60, _PATIENCE_SECONDS)
            seconds = round(time.monotonic() - freed, 1)
            left, arrived = len(list(inbox.iterdir())), len(list(done.glob("*.png")))
            return {
                "moved_while_full": meanwhile, "move_troubles_while_full": status["move_troubles"],
                "seconds_until_all_moved": seconds, "left_in_inbox": left, "in_done": arrived,
                "errors": count(daemon.database, _ERRORS), **told(daemon, 60),
            }  # fmt: skip
    finally:
        subprocess.run(["umount", "-l", done], check=False)


def _blocked(folder: Path) -> dict[str, Any]:
    """Leave 220 images in the way of 40, in two inboxes, with a restart between."""
    one, other, done = folder / "one", folder / "other", folder / "done"
    for path in (one / "blocked", other, done):
        path.mkdir(parents=True)
    (done / "blocked").write_text("a file where a folder should be")
    options = ["--on-done", "move", "--done-dir", str(done)]
    with running(one, other, *options, database=folder / "results.db") as daemon:
        put(one / "blocked", range(220))
        put(one, range(220, 240))
        until_rows(daemon, 240)
        first = count(daemon.database, _MOVED)
        daemon.stop()
    with running(one, other, *options, database=folder / "results.db") as daemon:
        put(other, range(240, 260))
        until_rows(daemon, 260)
        until(lambda: count(daemon.database, _MOVED) == 40, _PATIENCE_SECONDS)
        (done / "blocked").unlink()
        freed = time.monotonic()
        until(lambda: count(daemon.database, _MOVED) == 260, _PATIENCE_SECONDS)
        return {
            "moved_before_restart": first, "moved_beside_blocked": 40,
            "seconds_until_all_moved": round(time.monotonic() - freed, 1),
            "in_done": sum(1 for _ in done.rglob("*.png")), "errors": count(daemon.database, _ERRORS),
            **told(daemon, 260),
        }  # fmt: skip


def _lock_after_commit(folder: Path) -> dict[str, Any]:
    """Take the write lock for 0.7 s right after a commit, twenty times, while files are moved."""
    inbox, done = folder / "inbox", folder / "done"
    inbox.mkdir()
    with running(inbox, "--on-done", "move", "--done-dir", done, database=folder / "results.db") as daemon:
        stop = threading.Event()
        held: list[Any] = []
        holder = threading.Thread(target=_hold, args=(daemon.database, stop, held))
        holder.start()
        for start in range(0, 200, 10):
            put(inbox, range(start, start + 10))
            until_rows(daemon, start + 10)
        stop.set()
        holder.join()
        until(lambda: count(daemon.database, _MOVED) == 200, _PATIENCE_SECONDS)
        places = _places(daemon.database)
        return {
            "locks_held": len(held), "moved": len(places),
            "places_that_exist": sum(map(os.path.exists, places)),
            "errors": count(daemon.database, _ERRORS), **told(daemon, 200),
        }  # fmt: skip


def _hold(database: Path, stop: threading.Event, held: list[float]) -> None:
    """Hold the write lock after each commit of the daemon, at most twenty times."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=10)
    seen = -1
    while not stop.is_set() and len(held) < 20:
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if version != seen:
            seen = version
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("BEGIN IMMEDIATE")
                time.sleep(0.7)
                connection.execute("ROLLBACK")
                held.append(time.monotonic())
        time.sleep(0.001)
    connection.close()


def _places(database: Path) -> list[bytes]:
    connection = sqlite3.connect(database)
    found = [place for (place,) in connection.execute("SELECT moved_to FROM file WHERE move = 2")]
    connection.close()
    return found


TROUBLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "done-folder-full": _full,
    "moves-blocked": _blocked,
    "lock-after-commit": _lock_after_commit,
}
