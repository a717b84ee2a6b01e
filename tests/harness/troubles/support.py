"""Put images into a daemon's inbox, wait for their rows, and count what the database holds at the end."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from tests.support.daemons import Daemon, count, until
from trainer.images.phantom import phantom

_PATIENCE_SECONDS = 300.0


def put(inbox: Path, numbers: range) -> None:
    """Write each picture beside the inbox and rename it in."""
    for number in numbers:
        part = inbox.parent / "part.tmp"
        phantom(number, lesion=bool(number % 2), size=64).save(part, format="PNG")
        os.replace(part, inbox / f"slice {number:04}.png")


def until_rows(daemon: Daemon[Any], wanted: int) -> float:
    """Wait for the rows; return the seconds it took."""
    began = time.monotonic()
    until(lambda: count(daemon.database) >= wanted, _PATIENCE_SECONDS)
    return round(time.monotonic() - began, 1)


def told(daemon: Daemon, images: int) -> dict[str, Any]:
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
