"""Copy a database to a new file, whole, while others write to it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from config.files import flush


def copy_database(source: sqlite3.Connection, destination: Path) -> None:
    """Write what a connection sees to a file that gets its name when it is complete on disk; mode 0600.

    Raises FileExistsError if the name is taken, OSError where its folder does not let us in, sqlite3.Error
    for trouble with either file.
    """
    handle, name = tempfile.mkstemp(prefix=".backup-", suffix=".db", dir=destination.parent)
    os.close(handle)
    unfinished = Path(name)
    try:
        with closing(sqlite3.connect(unfinished)) as copy:
            # In one step: the reader's view holds, so a daemon's commits neither wait nor restart the copy.
            source.backup(copy, pages=-1)
        flush(unfinished)
        os.link(unfinished, destination)  # unlike rename, fails if the name was taken meanwhile
        flush(destination.parent)
    finally:
        unfinished.unlink(missing_ok=True)
