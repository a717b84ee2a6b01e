"""The places the daemon needs: the database, its disk, the inboxes, the cache."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from config.filesystem import filesystem_of, is_network_filesystem
from config.text import printable
from daemon.doctor.finding import Found, Level, Surroundings, existing_parent
from daemon.doctor.server_database import server_database
from daemon.output.cells import size_text

# Before this version two processes that checkpoint at once could corrupt a database in WAL mode.
SAFE_SQLITE = (3, 51, 3)
LOW_DISK_BYTES = 1 << 30
NO_DISK_BYTES = 64 << 20


def sqlite(around: Surroundings) -> Iterator[Found]:
    """Whether SQLite is free of the known fault in WAL mode."""
    if around.on_server:
        return
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= SAFE_SQLITE:
        yield Level.OK, f"SQLite {version}", ""
        return
    yield (
        Level.WARN,
        f"SQLite {version} is older than 3.51.3, before which two processes that checkpoint at once "
        "could corrupt a database in WAL mode",
        "bt-daemon lets one process alone checkpoint; do not write to the database with other programs, "
        "or use a Python with a newer SQLite",
    )


def database_place(around: Surroundings) -> Iterator[Found]:
    """Whether a database in WAL mode can live where it is meant to."""
    if around.on_server:
        return
    shown = printable(str(around.database))
    kind = filesystem_of(around.database)
    if is_network_filesystem(kind):
        yield (
            Level.FAIL,
            f"{shown} lies on a network file system ({printable(kind)}), where WAL is not safe",
            "give --db a file on a local disk; the images may stay where they are",
        )
        return
    folder = existing_parent(around.database.parent)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield (
            Level.FAIL,
            f"{printable(str(folder))} cannot be written",
            "check its owner, or give another --db",
        )
        return
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".bt-doctor-") as scratch:
            mode = _journal_mode(Path(scratch) / "probe.db")
    except (OSError, sqlite3.Error) as error:
        yield (
            Level.FAIL,
            f"no database can be made in {printable(str(folder))} ({printable(str(error))})",
            "check the disk, or give another --db",
        )
        return
    if mode != "wal":
        yield (
            Level.FAIL,
            f"SQLite cannot use WAL at {shown} ({printable(kind) or 'file system unknown'}), only {mode}",
            "give --db a file on another disk",
        )
        return
    yield Level.OK, f"WAL works at {shown} ({printable(kind) or 'file system unknown'})", ""


def database(around: Surroundings) -> Iterator[Found]:
    """Whether the database that is there can be read, by us and by nobody else."""
    from storage.database import open_reader

    if around.on_server:
        yield from server_database(around.settings.db)
        return
    if not around.database.exists():
        yield Level.OK, "there is none yet; the first watch makes it", ""
        return
    open_reader(around.database).close()
    mode = around.database.stat().st_mode & 0o777
    if mode & 0o077:
        shown = printable(str(around.database))
        yield Level.WARN, f"{shown} can be read by others (mode {mode:o})", f"chmod 600 {shown}"
        return
    yield Level.OK, f"readable, {size_text(around.database.stat().st_size)}", ""


def _journal_mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        mode = str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        connection.execute("CREATE TABLE probe (id INTEGER)")
        return mode


def disk(around: Surroundings) -> Iterator[Found]:
    """How much room there is."""
    places = [("cache", Path(around.settings.cache))]
    if not around.on_server:
        places.insert(0, ("database", around.database.parent))
    for what, path in places:
        free = shutil.disk_usage(existing_parent(path)).free
        fact = f"{size_text(free)} free for the {what}"
        if free < LOW_DISK_BYTES:
            level = Level.FAIL if free < NO_DISK_BYTES else Level.WARN
            yield level, fact, f"make room on the disk of {printable(str(existing_parent(path)))}"
        else:
            yield Level.OK, fact, ""


def inboxes(around: Surroundings) -> Iterator[Found]:
    """Whether the folders can be watched."""
    for folder in around.folders:
        yield _folder(folder, moves=around.settings.on_done == "move")


def _folder(folder: Path, *, moves: bool) -> Found:
    shown = printable(str(folder))
    if not folder.is_dir():
        return Level.FAIL, f"{shown} is not a folder", f"mkdir -p {shown}"
    if not os.access(folder, os.R_OK | os.X_OK):
        return Level.FAIL, f"{shown} cannot be read", "check its owner and permissions"
    if moves and not os.access(folder, os.W_OK):
        return (
            Level.FAIL,
            f"{shown} cannot be written, but judged images are to be moved",
            "use --on-done keep",
        )
    kind = filesystem_of(folder)
    if is_network_filesystem(kind):
        return (
            Level.WARN,
            f"{shown} is on a network file system ({printable(kind)}): it raises no events and is polled",
            "nothing to do; a shorter --rescan sees new images sooner",
        )
    return Level.OK, f"{shown} is readable ({printable(kind) or 'file system unknown'})", ""


def cache(around: Surroundings) -> Iterator[Found]:
    """Whether compiled engines can be kept."""
    folder = Path(around.settings.cache).expanduser()
    shown = printable(str(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
    except OSError as error:
        yield (
            Level.WARN,
            f"{shown} cannot be written ({error.strerror}): engines are compiled at every start",
            "check its owner, or give another --cache",
        )
        return
    yield Level.OK, f"{shown} is writable", ""
