"""Identity of the open database file: notice when its path has come to hold another."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path

from config.text import printable
from storage.database_errors import DatabaseLostError


def check_identity(path: Path, handle: int) -> None:
    """Raise DatabaseLostError if `path` no longer names the file that is open as `handle`; one stat."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise DatabaseLostError(
            f"the database {printable(str(path))} was deleted or moved away while the daemon worked on it",
            hint="put it back (bt-daemon db restore FILE), or start the daemon again with a new one",
        ) from None
    except OSError:  # says nothing of what lies there
        return
    if not os.path.samestat(found, os.fstat(handle)):
        raise DatabaseLostError(
            f"the database {printable(str(path))} was replaced by another file while the daemon worked on it",
            hint="see that it is the right one (bt-daemon db check), then start the daemon again",
        )


def withdraw_log(path: Path) -> None:
    """Take this process's own log away from beside a newcomer, whom it would damage; keep what it holds.

    SQLite finds a log by its name alone. One that belongs to the newcomer is left as it is.
    """
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        with contextlib.suppress(OSError):
            found = os.stat(beside)
            if not _is_open_here(found):
                continue
            if suffix == "-shm" or not found.st_size:
                beside.unlink()
            else:
                moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
                beside.rename(path.with_name(f"{path.name}.replaced-{moment}{suffix}"))


def _is_open_here(wanted: os.stat_result) -> bool:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(int(name)), wanted):
                return True
    return False
