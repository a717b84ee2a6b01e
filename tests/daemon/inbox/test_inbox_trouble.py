"""What an inbox does when the folder, the watch or the kernel lets it down."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import daemon.inbox.root_watch
from config.errors import DatabaseError
from daemon.inbox.events import Hints
from tests.support.inboxes import opened

# A C function called through PyDLL keeps the interpreter's lock: no other thread of ours runs meanwhile.
HOLDING = ctypes.PyDLL(None)
WRITE_FILES = """
import os, sys
root, count, folders = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(count):
    folder = os.path.join(root, f"f{number % folders}") if folders else root
    if folders and number < folders:
        os.makedirs(folder)
    with open(os.path.join(folder, f"{number}.png"), "wb") as file:
        file.write(b"whole")
"""


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def _written_elsewhere(inbox: Path, count: int, folders: int = 0) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITE_FILES, str(inbox), str(count), str(folders)])


@pytest.mark.slow
def test_after_a_kernel_overflow_every_file_is_found(inbox: Path) -> None:
    with opened(inbox, rescan_seconds=1e6) as bench:
        writer = _written_elsewhere(inbox, 12_000)  # 24,000 events; the kernel keeps 16,384
        HOLDING.waitpid(writer.pid, None, 0)
        writer.wait()
        bench.quiet(1.2)
        bench.pass_time(3)
        bench.until(lambda: len(bench.handed) >= 12_000)
        bench.until(bench.inbox.idle)

        assert len(bench.handed) == len({version.path for version in bench.handed}) == 12_000


def test_a_root_deleted_and_made_again_is_watched_again(inbox: Path) -> None:
    with opened(inbox, rescan_seconds=1e6, settle_seconds=600) as bench:
        shutil.rmtree(inbox)
        bench.pass_time(1.1)
        assert bench.inbox.health().state == "degraded"
        assert not bench.inbox.root_present()

        inbox.mkdir()
        bench.pass_time(1.1)
        (inbox / "a.png").write_bytes(b"whole")
        bench.until(lambda: bench.names == ["a.png"])
        assert bench.inbox.health().state == "watching"
        assert bench.inbox.root_present()


def test_a_root_deleted_and_made_again_between_two_looks_is_noticed(inbox: Path) -> None:
    with opened(inbox, rescan_seconds=1e6, settle_seconds=600) as bench:
        shutil.rmtree(inbox)
        inbox.mkdir()
        bench.quiet()
        bench.pass_time(1.1)
        (inbox / "a.png").write_bytes(b"whole")
        bench.until(lambda: bench.names == ["a.png"])


def test_a_root_renamed_and_replaced_is_watched_under_its_name(inbox: Path, tmp_path: Path) -> None:
    with opened(inbox, rescan_seconds=1e6, settle_seconds=600) as bench:
        inbox.rename(tmp_path / "old")
        inbox.mkdir()
        bench.pass_time(1.1)
        bench.quiet()
        (tmp_path / "old" / "old.png").write_bytes(b"whole")
        (inbox / "new.png").write_bytes(b"whole")
        bench.until(lambda: bench.names == ["new.png"])
        bench.quiet()

        assert bench.names == ["new.png"]


def test_a_root_that_is_missing_at_the_start_is_waited_for(inbox: Path) -> None:
    with opened(inbox, scanned=False, settle_seconds=600) as bench:
        bench.inbox.close()
        inbox.rmdir()
        bench.inbox.start()
        assert bench.inbox.health().state == "degraded"

        inbox.mkdir()
        bench.pass_time(1.1)
        (inbox / "a.png").write_bytes(b"whole")
        bench.until(lambda: bench.names == ["a.png"])


def test_an_unmounted_root_is_waited_for_and_proves_nothing_deleted(inbox: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "none", inbox], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        with opened(inbox, rescan_seconds=1e6, settle_seconds=600) as bench:
            subprocess.run(["umount", inbox], check=True)
            assert not bench.inbox.root_present()
            bench.pass_time(1.1)
            assert bench.inbox.health().state == "degraded"
            assert not bench.inbox.root_present()

            subprocess.run(["mount", "-t", "tmpfs", "none", inbox], check=True)
            bench.pass_time(1.1)
            (inbox / "a.png").write_bytes(b"whole")
            bench.until(lambda: bench.names == ["a.png"])
    finally:
        subprocess.run(["umount", inbox], capture_output=True, check=False)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_dead_watcher_thread_is_noticed_and_started_again(inbox: Path, which: int) -> None:
    with opened(inbox, rescan_seconds=1e6, settle_seconds=600) as bench:
        assert bench.inbox._root_watch._watch is not None
        thread = bench.inbox._root_watch._watch.threads[which]
        thread.stop()  # type: ignore[attr-defined]
        thread.join(2)
        (inbox / "missed.png").write_bytes(b"whole")
        assert not bench.inbox.health().watcher_alive

        bench.pass_time(1.1)
        bench.first_scan()
        (inbox / "seen.png").write_bytes(b"whole")
        bench.until(lambda: "seen.png" in bench.names)
        bench.pass_time(601)
        assert bench.names == ["missed.png", "seen.png"]
        assert bench.inbox.health().watcher_alive


def test_without_file_watches_left_the_folder_is_polled(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(daemon.inbox.root_watch, "Watch", refuse)
    with opened(inbox) as bench:
        (inbox / "a.png").write_bytes(b"whole")
        bench.pass_time(3)
        bench.pass_time(3)

        assert bench.names == ["a.png"]
        assert bench.inbox.health().state == "polling"
        assert "watches" in bench.inbox.health().why


def test_a_network_folder_is_polled_and_ages_are_not_believed(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon.inbox.root_watch, "filesystem_of", lambda path: "nfs4")
    (inbox / "a.png").write_bytes(b"whole")
    with opened(inbox, scanned=False) as bench:
        bench.clock.ahead += 100
        bench.first_scan()
        assert bench.names == []

        bench.pass_time(3)
        assert bench.names == ["a.png"]
        assert "nfs4" in bench.inbox.health().why


def test_a_busy_database_delays_a_scan_but_loses_nothing(inbox: Path) -> None:
    (inbox / "a.png").write_bytes(b"whole")
    with opened(inbox, scanned=False) as bench:
        answers = bench.inbox.unknown

        def busy(versions: object) -> list[object]:
            error = DatabaseError("the database is busy")
            error.transient = True
            raise error

        bench.inbox.unknown = busy  # type: ignore[assignment]
        bench.clock.ahead += 3
        bench.quiet(0.03)
        assert not bench.inbox.idle()

        bench.inbox.unknown = answers
        bench.pass_time(1.1)
        assert bench.names == ["a.png"]


def test_hints_beyond_the_limit_become_a_scan_and_nothing_raises() -> None:
    from watchdog.events import FileClosedEvent

    hints = Hints(lambda: None, limit=10)

    for number in range(25):
        hints.dispatch(FileClosedEvent(b"/inbox/%d.png" % number))
    hints.dispatch(None)  # type: ignore[arg-type]

    taken = hints.take(100)
    assert len(taken.complete) == 10
    assert taken.lost


@pytest.mark.slow
@pytest.mark.parametrize("folders", [0, 500])
def test_a_burst_of_50000_files_while_the_interpreter_is_busy_loses_none(inbox: Path, folders: int) -> None:
    with opened(inbox, rescan_seconds=1e6) as bench:
        writer = _written_elsewhere(inbox, 50_000, folders)
        while writer.poll() is None:
            HOLDING.usleep(300_000)
            bench.turn()
        bench.quiet(1.0)
        bench.clock.ahead += 3
        bench.until(lambda: len(bench.handed) >= 50_000, seconds=60)
        bench.until(bench.inbox.idle)

        assert len(bench.handed) == len({os.fsdecode(version.path) for version in bench.handed}) == 50_000
        print(bench.inbox.health())


def test_a_refused_watch_is_asked_for_again(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(daemon.inbox.root_watch, "Watch", refuse)
        bench_context = opened(inbox, rescan_seconds=1e6)
        bench = bench_context.__enter__()
    try:
        assert bench.inbox.health().state == "polling"
        bench.pass_time(daemon.inbox.root_watch.ASK_AGAIN_SECONDS + 1.1)
        bench.turn()
        assert bench.inbox.health().state == "watching"
        (inbox / "now.png").write_bytes(b"whole")
        bench.until(lambda: any(version.name == b"now.png" for version in bench.handed))
    finally:
        bench_context.__exit__(None, None, None)


@pytest.mark.defects(12)
def test_when_the_kernel_has_no_more_watches_the_first_poll_comes_at_once(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(inbox, rescan_seconds=3600, settle_seconds=0.01) as bench:
        monkeypatch.setattr(daemon.inbox.root_watch, "watches_exhausted", lambda root: True)
        bench.inbox._scan_again()
        bench.pass_time(1.1)
        assert bench.inbox.health().state == "polling"

        (inbox / "a.png").write_bytes(b"whole")
        bench.pass_time(1.1)
        bench.pass_time(2.5)

        assert bench.names == ["a.png"]
