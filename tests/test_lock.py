"""One daemon per database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.errors import UsageError
from daemon.lock import DatabaseLock, lock_owner


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
        "import sys, pathlib, time; from daemon.lock import DatabaseLock\n"
        f"with DatabaseLock(pathlib.Path({str(database)!r})): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        assert lock_owner(database) == owner.pid
        owner.kill()

    with DatabaseLock(database):
        assert lock_owner(database) == os.getpid()
