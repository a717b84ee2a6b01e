"""A database deleted or replaced under the daemon, and a disk that fails one read."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.database import open_writer
from tests.harness.troubles.support import put, told, until_rows
from tests.support.daemons import Daemon, bt_daemon, running, until

_ENDS_WITHIN_SECONDS = 10.0


def _deleted(folder: Path) -> dict[str, Any]:
    inbox, database = folder / "inbox", folder / "results.db"
    inbox.mkdir()
    with running(inbox, database=database) as daemon:
        put(inbox, range(20))
        until_rows(daemon, 20)
        database.unlink()
        put(inbox, range(20, 40))
        return {**_ended(daemon), "made_again": database.exists()}


def _replaced(folder: Path) -> dict[str, Any]:
    inbox, database, newcomer = folder / "inbox", folder / "results.db", folder / "newcomer.db"
    inbox.mkdir()
    open_writer(newcomer).close()
    before = newcomer.read_bytes()
    with running(inbox, database=database) as daemon:
        put(inbox, range(20))
        until_rows(daemon, 20)
        shutil.copy(newcomer, folder / "part")
        os.replace(folder / "part", database)
        put(inbox, range(20, 40))
        ended = _ended(daemon)
    untouched = database.read_bytes() == before and not Path(f"{database}-wal").exists()
    ended["ended_loudly"] = ended["ended_loudly"] and untouched
    connection = sqlite3.connect(database)
    integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
    connection.close()
    return {**ended, "newcomer_untouched": untouched, "integrity": integrity}


def _read_error(folder: Path) -> dict[str, Any]:
    """One read of the database fails with EIO; needs strace and the right to trace."""
    inbox, database = folder / "inbox", folder / "results.db"
    inbox.mkdir()
    with running(inbox, database=database) as daemon:
        (inbox / "broken.jpg").write_text("no image")
        put(inbox, range(50))
        until_rows(daemon, 51)
        trace = folder / "trace"
        strace = subprocess.Popen(
            [
                *("strace", "-o", str(trace), "-p", str(daemon.process.pid)),
                *("-e", "trace=pread64", "-e", "inject=pread64:error=EIO:when=1"),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(1.0)
            bt_daemon("retry", "--all", "--db", database)
            until(lambda: "INJECTED" in trace.read_text() or daemon.process.poll() is not None)
        finally:
            strace.terminate()
            strace.wait()
        put(inbox, range(50, 100))
        alive = daemon.process.poll() is None
        if alive:
            until_rows(daemon, 101)
        warnings = [line for line in daemon.log.read_text().splitlines() if " warning " in line]
        return {"injected": "INJECTED" in trace.read_text(), "warnings": warnings, **told(daemon, 101)}


def _ended(daemon: Daemon) -> dict[str, Any]:
    """Tell how a daemon ended: it must be soon, with exit 3 and one line."""
    began = time.monotonic()
    code = daemon.process.wait(60)
    seconds = round(time.monotonic() - began, 1)
    log = daemon.log.read_text().splitlines()
    loud = code == 3 and "the database" in log[-1] and "Traceback" not in "".join(log)
    return {
        "ended_loudly": loud and seconds <= _ENDS_WITHIN_SECONDS,
        "seconds_until_end": seconds,
        "exit_code": code,
        "last_line": log[-1],
    }


TROUBLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "database-deleted": _deleted,
    "database-replaced": _replaced,
    "read-error": _read_error,
}
