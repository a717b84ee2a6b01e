"""Which files an inbox hands over, and when: real folders, the real kernel, only time is moved."""

from __future__ import annotations

import os
import shutil
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from storage.database import open_writer
from storage.ledger.ledger import Ledger
from tests.support.inboxes import opened

LONG_AGO = (1_000_000_000, 1_000_000_000)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def test_a_new_file_is_handed_over_once_and_without_settling(inbox: Path) -> None:
    with opened(inbox, settle_seconds=600) as bench:
        (inbox / "a.png").write_bytes(b"whole")
        bench.until(lambda: bench.names == ["a.png"])
        bench.pass_time(700)

        assert bench.names == ["a.png"]
        assert bench.wakes > 0


def test_a_file_renamed_within_the_inbox_has_its_final_name_only(inbox: Path) -> None:
    with opened(inbox, settle_seconds=600) as bench:
        (inbox / "a.png.part").write_bytes(b"whole")
        bench.quiet()
        (inbox / "a.png.part").rename(inbox / "a.png")
        bench.until(lambda: bench.names == ["a.png"])


def test_a_file_renamed_in_from_outside_is_complete_at_once(inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"whole")
    with opened(inbox, settle_seconds=600) as bench:
        (tmp_path / "a.png").rename(inbox / "a.png")
        bench.until(lambda: bench.names == ["a.png"])


def test_a_hard_link_is_found_after_it_has_settled(inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"whole")
    with opened(inbox) as bench:
        os.link(tmp_path / "a.png", inbox / "a.png")
        bench.until(lambda: bench.inbox.health().waiting == 1)
        bench.pass_time(2.1)

        assert bench.names == ["a.png"]


def test_half_copied_image_waits_until_complete(inbox: Path) -> None:
    with opened(inbox) as bench, (inbox / "a.png").open("wb") as writer:
        for _ in range(5):
            writer.write(b"chunk")
            writer.flush()
            bench.quiet(0.03)
            bench.pass_time(1.5)
        assert bench.names == []

        writer.close()
        bench.until(lambda: bench.names == ["a.png"])
        assert bench.handed[0].size == 25


def test_a_slow_writer_that_preserves_an_old_mtime_is_not_believed(inbox: Path) -> None:
    with (inbox / "a.png").open("wb") as writer:
        writer.write(b"half")
        writer.flush()
        os.utime(inbox / "a.png", LONG_AGO)
        with opened(inbox, once=True) as bench:
            assert bench.names == []
            bench.clock.ahead += 1.5
            writer.write(b"half")
            writer.flush()
            os.utime(inbox / "a.png", LONG_AGO)
            bench.pass_time(1.0)
            assert bench.names == []

            bench.pass_time(2.1)
            assert [version.size for version in bench.handed] == [8]


def test_a_half_written_file_present_at_start_waits(inbox: Path) -> None:
    with (inbox / "a.png").open("wb") as writer:
        writer.write(b"half")
        writer.flush()
        with opened(inbox) as bench:
            assert bench.names == []
            writer.write(b"whole")
            writer.close()
            bench.until(lambda: bench.names == ["a.png"])

            assert bench.handed[0].size == 9


def test_files_quiet_for_longer_than_the_settle_time_start_at_once(inbox: Path) -> None:
    for number in range(50):
        (inbox / f"{number}.png").write_bytes(b"whole")
    with opened(inbox, scanned=False, settle_seconds=0.2, once=True) as bench:
        time.sleep(0.25)  # only the kernel sets ctime, so this much must really pass
        bench.turn()

        assert len(bench.handed) == 50
        assert bench.inbox.idle()


def test_ages_are_not_believed_when_the_clock_has_just_been_set(inbox: Path) -> None:
    with opened(inbox, scanned=False, once=True) as bench:
        (inbox / "a.png").write_bytes(b"half")
        bench.clock.wall_ahead += 86_400
        bench.turn()
        assert bench.names == []

        bench.pass_time(2.1)
        assert bench.names == ["a.png"]


def test_a_writer_that_pauses_longer_than_settle_is_handed_over_again_when_done(inbox: Path) -> None:
    with opened(inbox) as bench, (inbox / "a.png").open("wb") as writer:
        writer.write(b"half")
        writer.flush()
        bench.quiet(0.05)
        bench.pass_time(2.1)
        assert [version.size for version in bench.handed] == [4]

        writer.write(b"half")
        writer.close()
        bench.until(lambda: [version.size for version in bench.handed] == [4, 8])


def test_a_file_deleted_before_it_is_complete_is_never_handed_over(inbox: Path) -> None:
    with opened(inbox) as bench, (inbox / "a.png").open("wb"):
        bench.until(lambda: bench.inbox.health().waiting == 1)
        (inbox / "a.png").unlink()
        bench.pass_time(2.1)
        bench.pass_time(400)

        assert bench.names == []
        assert bench.inbox.idle()


def test_an_empty_file_waits_for_its_deadline(inbox: Path) -> None:
    with opened(inbox) as bench:
        (inbox / "a.png").touch()
        bench.until(lambda: bench.inbox.health().waiting == 1)
        bench.pass_time(290)
        assert bench.names == []

        bench.pass_time(11)
        assert [version.size for version in bench.handed] == [0]


def test_an_empty_file_does_not_hold_up_a_single_pass(inbox: Path) -> None:
    (inbox / "a.png").touch()
    with opened(inbox, once=True) as bench:
        bench.pass_time(2.1)

        assert bench.names == ["a.png"]
        assert bench.inbox.idle()


def test_a_file_that_never_settles_is_handed_over_at_its_deadline_and_delays_no_other(inbox: Path) -> None:
    with (
        opened(inbox, deadline_seconds=20, rescan_seconds=1e6) as bench,
        (inbox / "a.png").open("wb") as writer,
    ):
        for turn in range(14):
            writer.write(b"more")
            writer.flush()
            if turn == 5:
                (inbox / "b.png").write_bytes(b"whole")
                bench.until(lambda: bench.names == ["b.png"])
            bench.pass_time(1.9)

        assert bench.names == ["a.png", "b.png"]


def test_with_marker_files_an_image_waits_for_its_marker(inbox: Path) -> None:
    with opened(inbox, done_files=True, settle_seconds=600) as bench:
        (inbox / "a.png").write_bytes(b"whole")
        bench.quiet()
        assert bench.names == []

        (inbox / "a.png.done").touch()
        bench.until(lambda: bench.names == ["a.png"])


def test_with_marker_files_a_backlog_gives_the_marked_ones_only(inbox: Path) -> None:
    for name in ("a.png", "a.png.done", "b.png"):
        (inbox / name).write_bytes(b"whole")
    with opened(inbox, done_files=True) as bench:
        bench.pass_time(2.1)

        assert bench.names == ["a.png"]


def test_a_backlog_is_handed_over_once_and_not_again_after_a_restart(inbox: Path, tmp_path: Path) -> None:
    for number in range(300):
        (inbox / f"{number}.png").write_bytes(b"whole")
    connection = open_writer(tmp_path / "bt.db")
    ledger = Ledger(connection)
    inbox_id = ledger.inbox_id(os.fsencode(inbox))
    assert inbox_id == 1

    with opened(inbox, unknown=ledger.unknown) as bench:
        bench.clock.ahead += 3
        bench.turn()
        bench.quiet(0.05)
        entries = ledger.add(bench.handed)
    with opened(inbox, unknown=ledger.unknown) as again:
        again.pass_time(3)
    connection.close()

    assert len(entries) == 300
    assert again.names == []


def test_what_appears_between_the_arming_and_the_first_scan_is_not_missed(inbox: Path) -> None:
    with opened(inbox, scanned=False, settle_seconds=600) as bench:
        (inbox / "a.png").write_bytes(b"whole")
        bench.first_scan()
        bench.until(lambda: bench.names == ["a.png"])


def test_a_rescan_finds_what_no_event_announced(inbox: Path) -> None:
    with opened(inbox) as bench:
        assert bench.inbox._root_watch._watch is not None
        bench.inbox._root_watch._watch._observer.unschedule_all()  # alive, but blind
        bench.inbox._root_watch._watch._threads = []
        (inbox / "a.png").write_bytes(b"whole")
        bench.pass_time(70)
        bench.pass_time(3)

        assert bench.names == ["a.png"]
        assert bench.inbox.health().found_by_scan_only == 1


def test_a_file_in_a_folder_made_at_the_same_moment_is_not_missed(inbox: Path) -> None:
    with opened(inbox, rescan_seconds=1e6) as bench:
        for number in range(200):
            folder = inbox / str(number) / "b" / "c"
            folder.mkdir(parents=True)
            (folder / "a.png").write_bytes(b"whole")
        bench.quiet(0.5)
        bench.pass_time(3)
        bench.until(lambda: len(bench.names) == 200)


@pytest.mark.skipif(
    version("watchdog") < "7.1",
    reason="watchdog 6.0 does not watch a folder moved in; the rescan finds its files",
)
def test_a_populated_folder_moved_in_is_read_and_watched(inbox: Path, tmp_path: Path) -> None:
    outside = tmp_path / "series"
    outside.mkdir()
    (outside / "a.png").write_bytes(b"whole")
    with opened(inbox, rescan_seconds=1e6) as bench:
        outside.rename(inbox / "series")
        bench.quiet()
        bench.pass_time(3)
        assert bench.names == ["series/a.png"]

        (inbox / "series" / "b.png").write_bytes(b"whole")
        bench.until(lambda: bench.names == ["series/a.png", "series/b.png"])


def test_polling_gives_the_same_files(inbox: Path) -> None:
    with opened(inbox, poll=True, rescan_seconds=5) as bench:
        (inbox / "sub").mkdir()
        (inbox / "sub" / "a.png").write_bytes(b"whole")
        bench.pass_time(6)
        bench.pass_time(3)

        assert bench.names == ["sub/a.png"]
        assert bench.inbox.health().state == "polling"
        assert bench.inbox.health().why == "asked for"


def test_leftovers_are_ignored_and_upper_case_extensions_are_not(inbox: Path) -> None:
    (inbox / "@eaDir").mkdir()
    for name in (".DS_Store", "._x.png", "@eaDir/a.png", "a.png.part", "A.PNG", "notes"):
        (inbox / name).write_bytes(b"whole")
    with opened(inbox) as bench:
        bench.pass_time(3)
        (inbox / "@eaDir" / "b.png").write_bytes(b"whole")
        (inbox / ".b.png").write_bytes(b"whole")
        bench.quiet()
        bench.pass_time(3)

        assert bench.names == ["A.PNG", "notes"]


@pytest.mark.defects(40)
def test_what_is_passed_over_is_counted_and_said_once(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bt-daemon")
    (inbox / ".git").mkdir()
    for name in ("a.png", "a.json", "b.json", "notes.txt", ".hidden.png", ".git/x", "c.part", "left.out"):
        (inbox / name).write_bytes(b"whole")
    with opened(inbox, rescan_seconds=2, exclude=("*.out",)) as bench:
        bench.pass_time(3)
        bench.pass_time(3)
        (inbox / "d.json").write_bytes(b"whole")
        bench.pass_time(3)
        bench.pass_time(3)
        health = bench.inbox.health()

        assert bench.names == ["a.png"]
    assert health.passed_over == 7
    assert health.passed_over_kinds.split(", ") == ["3 .json", "2 hidden", "1 .txt", "1 leftover"]
    said = [line for line in caplog.messages if "passed over" in line]
    assert len(said) == 1
    assert "6 passed over (2 .json, 2 hidden" in said[0]


def test_no_symlink_is_followed_by_scan_or_event(inbox: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"whole")
    (inbox / "out").symlink_to(outside)
    (inbox / "loop").symlink_to(inbox)
    (inbox / "file.png").symlink_to(outside / "secret.png")
    with opened(inbox) as bench:
        (inbox / "later").symlink_to(outside)
        (outside / "more.png").write_bytes(b"whole")
        bench.quiet()
        bench.pass_time(70)
        bench.pass_time(3)

        assert bench.names == []
        assert bench.inbox.health().odd_entries == 4


def test_pipes_and_sockets_are_logged_once_and_never_opened(
    inbox: Path, capture: list[str], tmp_path: Path
) -> None:
    os.mkfifo(inbox / "pipe.png")
    with opened(inbox) as bench:
        os.mkfifo(inbox / "later.png")
        for _ in range(3):
            bench.pass_time(70)

        assert bench.names == []
        assert len([line for line in capture if "pipe.png" in line]) == 1
        assert len([line for line in capture if "later.png" in line]) == 1
        assert all("named pipe" in line for line in capture)


def test_new_bytes_under_the_same_name_are_a_new_version(inbox: Path) -> None:
    with opened(inbox) as bench:
        (inbox / "a.png").write_bytes(b"first")
        bench.until(lambda: len(bench.handed) == 1)
        (inbox / "a.png").write_bytes(b"second")
        bench.until(lambda: len(bench.handed) == 2)

        assert [version.size for version in bench.handed] == [5, 6]


def test_an_inode_used_again_by_other_content_is_a_new_version(inbox: Path) -> None:
    with opened(inbox) as bench:
        (inbox / "a.png").write_bytes(b"first")
        bench.until(lambda: len(bench.handed) == 1)
        (inbox / "a.png").unlink()
        (inbox / "b.png").write_bytes(b"other")
        bench.until(lambda: len(bench.handed) == 2)

        assert bench.names == ["a.png", "b.png"]


def test_an_event_for_a_file_already_taken_up_does_not_hand_it_over_again(inbox: Path) -> None:
    with opened(inbox) as bench:
        (inbox / "a.png").write_bytes(b"whole")
        bench.until(lambda: len(bench.handed) == 1)
        with (inbox / "a.png").open("r+b"):
            pass
        (inbox / "a.png").read_bytes()
        bench.quiet()
        bench.pass_time(70)
        bench.pass_time(3)

        assert len(bench.handed) == 1


def test_our_own_reading_raises_no_event(inbox: Path) -> None:
    (inbox / "a.png").write_bytes(b"whole")
    with opened(inbox) as bench:
        before = bench.inbox.health().events
        (inbox / "a.png").read_bytes()
        bench.quiet()

        assert bench.inbox.health().events == before


@pytest.mark.parametrize("name", [b"\xff\xfe.png", b"a\nb.png", b"x" * 251 + b".png", b" .png", b"-rf"])
def test_names_of_any_bytes_are_handed_over_as_they_are(inbox: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(inbox), name)
    with opened(inbox) as bench:
        with open(path, "wb") as writer:
            writer.write(b"whole")
        bench.until(lambda: [version.path for version in bench.handed] == [name])


def test_done_and_quarantine_folders_inside_the_inbox_are_never_read(inbox: Path) -> None:
    done = inbox / "done"
    done.mkdir()
    (done / "old.png").write_bytes(b"whole")
    with opened(inbox, skip_folders=(os.fsencode(done),)) as bench:
        (inbox / "a.png").write_bytes(b"whole")
        bench.until(lambda: bench.names == ["a.png"])
        (inbox / "a.png").rename(done / "a.png")
        bench.quiet()
        bench.pass_time(70)
        bench.pass_time(3)

        assert bench.names == ["a.png"]


def test_without_recursion_subfolders_are_left_alone(inbox: Path) -> None:
    (inbox / "sub").mkdir()
    (inbox / "sub" / "a.png").write_bytes(b"whole")
    with opened(inbox, recursive=False) as bench:
        shutil.copy(inbox / "sub" / "a.png", inbox / "b.png")
        bench.quiet()
        bench.pass_time(70)
        bench.pass_time(3)

        assert bench.names == ["b.png"]


@pytest.fixture
def capture(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines the daemon logs, as they come."""
    import logging

    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Lines()
    logger = logging.getLogger("bt-daemon")
    logger.addHandler(handler)
    return lines
