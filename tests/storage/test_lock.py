"""One daemon per database."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from config.errors import UsageError
from storage.database_errors import DatabaseUnwritableError
from storage.lock import DatabaseLock, lock_holder, lock_owner


def test_a_second_holder_is_refused_in_one_line_that_names_the_first(tmp_path: Path) -> None:
    database = tmp_path / "results.db"

    with (
        DatabaseLock(database),
        pytest.raises(UsageError, match=rf"pid {os.getpid()}\) already writes"),
        DatabaseLock(database),
    ):
        pass


def test_the_owner_is_known_while_it_holds_the_lock_and_not_after(tmp_path: Path) -> None:
    database = tmp_path / "results.db"

    with DatabaseLock(database):
        during = lock_owner(database)

    assert during == os.getpid()
    assert lock_owner(database) is None


def test_the_lock_is_free_after_its_owner_was_killed(tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    script = (
        "import sys, pathlib, time; from storage.lock import DatabaseLock\n"
        f"with DatabaseLock(pathlib.Path({str(database)!r})): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        assert lock_owner(database) == owner.pid
        owner.kill()

    with DatabaseLock(database):
        assert lock_owner(database) == os.getpid()


@pytest.mark.defects(14)
@pytest.mark.parametrize("other", ["symbolic link", "hard link", "spelling", "linked folder"])
def test_a_second_holder_by_another_name_of_the_same_database_is_refused(tmp_path: Path, other: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    database = folder / "results.db"
    database.touch()
    names = {
        "symbolic link": tmp_path / "link.db",
        "hard link": tmp_path / "second.db",
        "spelling": folder / ".." / "data" / "results.db",
        "linked folder": tmp_path / "folder" / "results.db",
    }
    names["symbolic link"].symlink_to(database)
    names["hard link"].hardlink_to(database)
    (tmp_path / "folder").symlink_to(folder)

    with (
        DatabaseLock(database),
        pytest.raises(UsageError, match="already writes"),
        DatabaseLock(names[other]),
    ):
        pass


@pytest.mark.defects(14)
def test_a_starting_daemon_is_not_refused_because_a_reader_asks_at_that_moment(tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    with DatabaseLock(database):
        pass
    with open(f"{database}.lock") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (reader, fcntl.LOCK_UN)).start()

        with DatabaseLock(database):
            owner = lock_owner(database)

    assert owner == os.getpid()


@pytest.mark.defects(17)
def test_what_troubles_the_owner_is_told_beside_its_pid_and_taken_back(tmp_path: Path) -> None:
    database = tmp_path / "results.db"

    with DatabaseLock(database) as lock:
        size = lock.path.stat().st_size
        lock.tell("the disk is full; make room \x1b" + "x" * 2_000)
        told = lock_holder(database)
        grown = lock.path.stat().st_size
        lock.tell("")
        after = lock_holder(database)

    assert told[0] == os.getpid()
    assert told[1].startswith("the disk is full; make room")
    assert "\x1b" not in told[1]
    assert grown == size  # so that it can be told on a full disk
    assert after == (os.getpid(), "", None)
    assert lock_holder(database) == (None, "", None)


def test_the_owner_says_when_its_loop_turned_without_growing_the_file(tmp_path: Path) -> None:
    database = tmp_path / "results.db"

    with DatabaseLock(database) as lock:
        size = lock.path.stat().st_size
        lock.tell("busy", 1_795_507_200_000_000)

        assert lock_holder(database) == (os.getpid(), "busy", 1_795_507_200_000_000)
        assert lock.path.stat().st_size == size


@pytest.mark.defects(35)
def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with (
        pytest.raises(DatabaseUnwritableError, match=r"mkdir -p .*nope"),
        DatabaseLock(tmp_path / "nope" / "results.db"),
    ):
        pass

    assert not (tmp_path / "nope").exists()
