"""The main job, end to end: a folder in, rows out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.support.daemons import bt_daemon, count, rows, running, until
from trainer.images.phantom import phantom

pytestmark = pytest.mark.slow


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


def _fill(inbox: Path, number: int, start: int = 0) -> None:
    """Write so many images; they differ, so that none is another's twin."""
    picture = phantom(1, lesion=True, size=64, label=False)
    for place in range(start, start + number):
        picture.putpixel((place % 64, place // 64 % 64), 200)
        picture.save(inbox / f"{place:05}.png")


def test_once_writes_one_row_per_file_and_a_second_run_adds_none(inbox: Path, database: Path) -> None:
    for name in ("no 5.jpeg", "UPPER.JPG", "plain.png"):
        phantom(1, lesion=False).save(inbox / name)
    phantom(2, lesion=True).convert("P").save(inbox / "palette.png")
    phantom(3, lesion=True).convert("RGBA").save(inbox / "alpha.png")

    first = bt_daemon("watch", inbox, "--once", "--db", database)
    second = bt_daemon("watch", inbox, "--once", "--db", database)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    found = rows(database)
    assert sorted(Path(row["file"]).name for row in found) == sorted(os.listdir(inbox))
    assert {row["status"] for row in found} <= {"ok", "uncertain", "rejected"}
    assert all(row["model"] for row in found)


def test_what_cannot_be_judged_is_an_error_row_with_its_reason(inbox: Path, database: Path) -> None:
    (inbox / "text.jpg").write_text("not an image")
    (inbox / "empty.png").touch()
    phantom(1, lesion=True).save(inbox / "whole.jpg")
    (inbox / "cut.jpg").write_bytes((inbox / "whole.jpg").read_bytes()[:4000])

    done = bt_daemon("watch", inbox, "--once", "--db", database)

    assert done.returncode == 0, done.stderr
    found = {Path(row["file"]).name: row for row in rows(database)}
    assert found["whole.jpg"]["status"] != "error"
    for name in ("text.jpg", "empty.png", "cut.jpg"):
        assert found[name]["status"] == "error"
        assert found[name]["reason"]


def test_the_classes_agree_with_classify_on_the_same_files(inbox: Path, database: Path) -> None:
    for number in range(6):
        phantom(number, lesion=number % 2 == 0).save(inbox / f"{number}.png")

    bt_daemon("watch", inbox, "--once", "--db", database)
    direct = bt_daemon("classify", *sorted(inbox.iterdir()), "--format", "json")

    assert direct.returncode == 0, direct.stderr
    watched = {Path(row["file"]).name: (row["class"], row["status"]) for row in rows(database)}
    classified = {Path(row["file"]).name: (row["class"], row["status"]) for row in json.loads(direct.stdout)}
    assert watched == classified


def test_an_image_copied_into_the_inbox_gets_its_row_at_once(inbox: Path, database: Path) -> None:
    """Long before the next scan; how long exactly is the benchmark's to measure."""
    with running(inbox, "--rescan", "1h", database=database):
        phantom(1, lesion=True).save(inbox / "new.png")
        until(lambda: count(database) == 1, 10)

    assert [Path(row["file"]).name for row in rows(database)] == ["new.png"]


def test_a_second_daemon_on_the_same_database_is_refused_in_one_line(inbox: Path, database: Path) -> None:
    with running(inbox, database=database) as daemon:
        second = bt_daemon("watch", inbox, "--db", database)

        assert second.returncode == 2
        assert str(daemon.process.pid) in second.stderr
        assert second.stderr.count("\n") == 1


def test_sigterm_in_a_backlog_ends_with_0_and_the_next_start_does_the_rest(
    inbox: Path, database: Path
) -> None:
    number = 500
    _fill(inbox, number)

    with running(inbox, database=database) as daemon:
        until(lambda: count(database) > 50)
        asked = time.monotonic()
        code = daemon.stop(signal.SIGTERM)
        took = time.monotonic() - asked
    committed = count(database)
    bt_daemon("watch", inbox, "--once", "--db", database)

    assert code == 0
    assert took < 10
    assert 50 < committed < number
    assert count(database) == number


def test_killed_at_random_moments_no_image_is_lost_or_doubled(inbox: Path, database: Path) -> None:
    """The short form of tests/harness/kill.py."""
    _fill(inbox, 600)

    for number in range(8):
        with running(inbox, database=database, watching=False) as daemon:
            time.sleep(0.35 + 0.12 * number)
            daemon.kill()
    done = bt_daemon("watch", inbox, "--once", "--db", database)

    assert done.returncode == 0, done.stderr
    assert count(database) == 600
    assert count(database, "SELECT count(DISTINCT file_id) FROM result") == 600
    connection = sqlite3.connect(database)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_held_write_lock_delays_rows_but_loses_none(inbox: Path, database: Path) -> None:
    with running(inbox, database=database) as daemon:
        holder = sqlite3.connect(database, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        _fill(inbox, 40)
        until(lambda: "locked" in daemon.log.read_text())
        during = count(database)
        readable = bt_daemon("results", "--format", "json", "--db", database)
        holder.execute("ROLLBACK")
        holder.close()
        until(lambda: count(database) == 40)

    assert during == 0
    assert readable.returncode == 0
    assert "takes rows again" in daemon.log.read_text()


def test_the_root_deleted_and_made_again_is_watched_on(inbox: Path, database: Path) -> None:
    with running(inbox, "--rescan", "1s", database=database):
        _fill(inbox, 3)
        until(lambda: count(database) == 3)
        shutil.rmtree(inbox)
        inbox.mkdir()
        _fill(inbox, 2, start=10)

        until(lambda: count(database) == 5)


def test_judged_images_are_moved_after_their_row_is_there(
    inbox: Path, database: Path, tmp_path: Path
) -> None:
    _fill(inbox, 3)
    (inbox / "broken.png").write_text("no image")

    done = bt_daemon(
        "watch", inbox, "--once", "--db", database,
        "--on-done", "move", "--done-dir", tmp_path / "done", "--quarantine-dir", tmp_path / "bad",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert not list(inbox.iterdir())
    assert len(list((tmp_path / "done").iterdir())) == 3
    assert [path.name for path in (tmp_path / "bad").iterdir()] == ["broken.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["watch", "missing-folder"], 2, "no folder at missing-folder"),
        (["watch", ".", "--device", "cuda:7", "--once"], 5, "no CUDA device 7"),
        (["watch", ".", "--device", "tpu", "--once"], 2, "tpu"),
        (["watch", ".", "--weights", "README.md", "--once"], 4, "README.md"),
        (["watch", ".", "--settle", "soon"], 2, "--settle"),
        (["watch"], 2, "DIR"),
        (["watsh"], 2, "watsh"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_an_exit_code(
    arguments: list[str], code: int, words: str, database: Path
) -> None:
    done = bt_daemon(*arguments, "--db", database)

    assert done.returncode == code
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_all_real_images_of_the_first_collection_get_a_row(shared: Path, database: Path) -> None:
    folder = shared / "data" / "brain-mri-253"

    done = bt_daemon("watch", folder, "--once", "--db", database)

    assert done.returncode == 0, done.stderr
    found = rows(database)
    assert len(found) == 253
    assert len({row["file"] for row in found}) == 253
    assert not [row for row in found if row["status"] == "error"]


def test_a_zip_of_images_is_one_row_that_says_to_unpack_it_and_unpacked_it_is_judged(
    inbox: Path, database: Path, tmp_path: Path
) -> None:
    _fill(tmp_path, 2)
    with zipfile.ZipFile(inbox / "export.zip", "w") as archive:
        archive.write(tmp_path / "00000.png", "a/1.png")
        archive.write(tmp_path / "00001.png", "../../2.png")

    bt_daemon("watch", inbox, "--once", "--db", database)
    (refused,) = rows(database)
    after_first = sorted(path.name for path in tmp_path.rglob("*.png"))
    unpack = ["-m", "zipfile", "-e", str(inbox / "export.zip"), str(inbox / "export")]
    subprocess.run([sys.executable, *unpack], check=True)
    bt_daemon("watch", inbox, "--once", "--db", database)

    assert (refused["status"], Path(refused["file"]).name) == ("error", "export.zip")
    assert refused["reason"] == "a ZIP archive, not an image; unpack it into the inbox"
    assert after_first == ["00000.png", "00001.png"]
    assert sorted(Path(row["file"]).name for row in rows(database)) == ["1.png", "2.png", "export.zip"]
    assert (inbox / "export" / "2.png").is_file()
