"""Do to a running daemon what a machine may do to it, for as long as it takes, and count.

    python -m tests.trouble_harness [lock full root] [--json FILE]

lock: another process holds the write lock for 60 s while images come. full: the database lies on a
file system that fills up, and gets room again (needs root, for a tmpfs). root: the inbox is deleted
and made again, renamed and replaced, while images come. After each: one row per image, the daemon
alive, the database whole.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.phantom import phantom
from tests.daemon_support import Daemon, bt_daemon, count, running, until

_LOCK_SECONDS = 60.0
_PATIENCE_SECONDS = 300.0


def main() -> int:
    """Run the named troubles and return 0 if each left exactly one row per image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("troubles", nargs="*", metavar="TROUBLE", help=", ".join(_TROUBLES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    told = []
    for name in options.troubles or list(_TROUBLES):
        with tempfile.TemporaryDirectory(prefix="bt-trouble-") as folder:
            told.append({"trouble": name, **_TROUBLES[name](Path(folder))})
        print(json.dumps(told[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return int(any((one["rows"], one["integrity"]) != (one["images"], "ok") for one in told))


def _lock(folder: Path) -> dict[str, Any]:
    inbox, database = folder / "inbox", folder / "results.db"
    inbox.mkdir()
    with running(inbox, database=database) as daemon:
        _put(inbox, range(50))
        _until_rows(daemon, 50)
        holder = sqlite3.connect(database, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        _put(inbox, range(50, 150))
        while time.monotonic() < began + _LOCK_SECONDS:
            time.sleep(1.0)
        meanwhile = count(database)
        read = bt_daemon("results", "--count", "--db", database)
        holder.execute("ROLLBACK")
        holder.close()
        freed = time.monotonic()
        _until_rows(daemon, 150)
        return {
            "rows_while_locked": meanwhile, "results_while_locked": read.stdout.strip(),
            "seconds_until_all": round(time.monotonic() - freed, 1), **_told(daemon, 150),
        }  # fmt: skip


def _full(folder: Path) -> dict[str, Any]:
    inbox, disk = folder / "inbox", folder / "disk"
    inbox.mkdir()
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        with running(inbox, database=disk / "results.db", log=folder / "daemon.log") as daemon:
            _put(inbox, range(20))
            _until_rows(daemon, 20)
            ballast = disk / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))
            _put(inbox, range(20, 820))
            time.sleep(20.0)
            meanwhile = count(disk / "results.db")
            status = json.loads(bt_daemon("status", "--json", "--db", disk / "results.db").stdout)
            alive = daemon.process.poll() is None
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            freed = time.monotonic()
            _until_rows(daemon, 820)
            return {
                "rows_while_full": meanwhile, "alive_while_full": alive,
                "last_error_while_full": status.get("last_error"),
                "seconds_until_all": round(time.monotonic() - freed, 1), **_told(daemon, 820),
            }  # fmt: skip
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def _root(folder: Path) -> dict[str, Any]:
    inbox, database = folder / "inbox", folder / "results.db"
    inbox.mkdir()
    took = {}
    with running(inbox, database=database) as daemon:
        _put(inbox, range(20))
        _until_rows(daemon, 20)
        shutil.rmtree(inbox)
        time.sleep(3.0)
        gone = json.loads(bt_daemon("status", "--json", "--db", database).stdout)
        inbox.mkdir()
        _put(inbox, range(20, 40))
        took["deleted_and_made_again_seconds"] = _until_rows(daemon, 40)
        inbox.rename(folder / "other")
        inbox.mkdir()
        _put(inbox, range(40, 60))
        _put(folder / "other", range(60, 70))  # no inbox any more: must not be judged
        took["renamed_and_replaced_seconds"] = _until_rows(daemon, 60)
        time.sleep(3.0)
        return {
            "status_while_gone": [{"state": one["state"], "why": one["why"]} for one in gone["inboxes"]],
            **took,
            **_told(daemon, 60),
        }


_TROUBLES: dict[str, Callable[[Path], dict[str, Any]]] = {"lock": _lock, "full": _full, "root": _root}


def _put(inbox: Path, numbers: range) -> None:
    """Write each picture beside the inbox and rename it in."""
    for number in numbers:
        part = inbox.parent / "part.png"
        phantom(number, lesion=bool(number % 2), size=64).save(part)
        os.replace(part, inbox / f"slice {number:04}.png")


def _until_rows(daemon: Daemon, wanted: int) -> float:
    """Wait for the rows; return the seconds it took."""
    began = time.monotonic()
    until(lambda: count(daemon.database) >= wanted, _PATIENCE_SECONDS)
    return round(time.monotonic() - began, 1)


def _told(daemon: Daemon, images: int) -> dict[str, Any]:
    """Stop the daemon; return its exit code and what the database holds."""
    code = daemon.stop()
    connection = sqlite3.connect(daemon.database)
    rows = connection.execute("SELECT count(*) FROM result").fetchone()[0]
    files = connection.execute("SELECT count(DISTINCT file_id) FROM result").fetchone()[0]
    integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
    connection.close()
    log = daemon.log.read_text().splitlines()
    return {
        "images": images, "rows": rows, "files": files, "integrity": integrity, "exit_code": code,
        "log_lines": len(log),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
