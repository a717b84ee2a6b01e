"""A write lock that is held, a disk that fills up, an inbox that is deleted or replaced."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness.troubles.support import put, told, until_rows
from tests.support.daemons import bt_daemon, count, running

_LOCK_SECONDS = 60.0


def _lock(folder: Path) -> dict[str, Any]:
    inbox, database = folder / "inbox", folder / "results.db"
    inbox.mkdir()
    with running(inbox, database=database) as daemon:
        put(inbox, range(50))
        until_rows(daemon, 50)
        holder = sqlite3.connect(database, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        put(inbox, range(50, 150))
        while time.monotonic() < began + _LOCK_SECONDS:
            time.sleep(1.0)
        meanwhile = count(database)
        read = bt_daemon("results", "--count", "--db", database)
        holder.execute("ROLLBACK")
        holder.close()
        freed = time.monotonic()
        until_rows(daemon, 150)
        return {
            "rows_while_locked": meanwhile, "results_while_locked": read.stdout.strip(),
            "seconds_until_all": round(time.monotonic() - freed, 1), **told(daemon, 150),
        }  # fmt: skip


def _full(folder: Path) -> dict[str, Any]:
    inbox, disk = folder / "inbox", folder / "disk"
    inbox.mkdir()
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        with running(inbox, database=disk / "results.db", log=folder / "daemon.log") as daemon:
            put(inbox, range(20))
            until_rows(daemon, 20)
            ballast = disk / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))
            put(inbox, range(20, 820))
            time.sleep(20.0)
            meanwhile = count(disk / "results.db")
            status = json.loads(bt_daemon("status", "--json", "--db", disk / "results.db").stdout)
            alive = daemon.process.poll() is None
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            freed = time.monotonic()
            until_rows(daemon, 820)
            return {
                "rows_while_full": meanwhile, "alive_while_full": alive,
                "trouble_while_full": status.get("trouble"),
                "last_error_while_full": status.get("last_error"),
                "seconds_until_all": round(time.monotonic() - freed, 1), **told(daemon, 820),
            }  # fmt: skip
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def _root(folder: Path) -> dict[str, Any]:
    inbox, database = folder / "inbox", folder / "results.db"
    inbox.mkdir()
    took = {}
    with running(inbox, database=database) as daemon:
        put(inbox, range(20))
        until_rows(daemon, 20)
        shutil.rmtree(inbox)
        time.sleep(3.0)
        gone = json.loads(bt_daemon("status", "--json", "--db", database).stdout)
        inbox.mkdir()
        put(inbox, range(20, 40))
        took["deleted_and_made_again_seconds"] = until_rows(daemon, 40)
        inbox.rename(folder / "other")
        inbox.mkdir()
        put(inbox, range(40, 60))
        put(folder / "other", range(60, 70))  # no inbox any more: must not be judged
        took["renamed_and_replaced_seconds"] = until_rows(daemon, 60)
        time.sleep(3.0)
        return {
            "status_while_gone": [{"state": one["state"], "why": one["why"]} for one in gone["inboxes"]],
            **took,
            **told(daemon, 60),
        }


TROUBLES: dict[str, Callable[[Path], dict[str, Any]]] = {"lock": _lock, "full": _full, "root": _root}
