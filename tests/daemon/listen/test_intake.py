"""Files come into an inbox whole, once, and within limits."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from config.errors import UsageError
from daemon.inbox.filters import Choice, InboxRules
from daemon.listen.intake import Intake, PartFile
from daemon.listen.refusals import OUT_OF_RESOURCES, StoreRefusedError
from tests.conftest import REPOSITORY

CONTENT = b"an object" * 1000
NAME = hashlib.sha256(CONTENT).hexdigest()[:32] + ".dcm"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def _intake(inbox: Path, *, max_bytes: int = 1 << 20, min_free: int = 0) -> Intake:
    return Intake(inbox, max_bytes=max_bytes, min_free=min_free)


def _written(path: Path) -> tuple[int, int, int, int]:
    """Return what writing or renaming a file changes; that it was read to be compared does not count."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _put(intake: Intake, content: bytes = CONTENT) -> bool:
    part = intake.begin()
    part.write(content)
    return part.place()


def test_a_file_is_named_by_its_content_when_it_is_whole(inbox: Path) -> None:
    part = _intake(inbox).begin()
    part.write(CONTENT[:10])
    (unfinished,) = os.listdir(os.fsencode(inbox))
    part.write(CONTENT[10:])
    part.place()

    assert not Choice(InboxRules(include=("*",)), os.fsencode(inbox)).takes_file(b"", unfinished)
    assert os.listdir(inbox) == [NAME]
    assert (inbox / NAME).read_bytes() == CONTENT


def test_the_same_bytes_again_leave_the_file_as_it_is(inbox: Path) -> None:
    intake = _intake(inbox)
    first = _put(intake)
    before = _written(inbox / NAME)

    again = _put(intake)

    assert (first, again) == (True, False)
    assert _written(inbox / NAME) == before
    assert os.listdir(inbox) == [NAME]


def test_a_link_or_a_broken_file_in_its_place_is_replaced_and_not_followed(
    inbox: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(CONTENT)
    (inbox / NAME).symlink_to(outside)
    _put(_intake(inbox))
    is_link = (inbox / NAME).is_symlink()
    (inbox / NAME).write_bytes(bytes(len(CONTENT)))
    is_new = _put(_intake(inbox))

    assert not is_link
    assert is_new
    assert (inbox / NAME).read_bytes() == CONTENT
    assert outside.read_bytes() == CONTENT


def test_what_is_too_large_is_refused_and_leaves_nothing(inbox: Path) -> None:
    part = _intake(inbox, max_bytes=10_000).begin()
    part.write(bytes(9_000))

    with pytest.raises(StoreRefusedError) as caught:
        part.write(bytes(2_000))
    part.discard()

    assert (caught.value.status, os.listdir(inbox)) == (OUT_OF_RESOURCES, [])


def test_space_that_is_to_stay_free_stays_free(inbox: Path) -> None:
    with pytest.raises(StoreRefusedError, match="bytes are free"):
        _intake(inbox, min_free=1 << 60).begin()

    assert os.listdir(inbox) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_an_inbox_whose_disk_went_away_takes_nothing(inbox: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "none", inbox], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        intake = _intake(inbox)
    finally:
        subprocess.run(["umount", inbox], check=True)

    with pytest.raises(StoreRefusedError, match="not the disk"):
        intake.begin()


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_stay(inbox: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom daemon.listen.intake import Intake\n"
        "part = Intake(Path(sys.argv[1]), max_bytes=10**6, min_free=0).begin()\npart.write(b'x')\nos._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, inbox], cwd=REPOSITORY, check=False)
    (inbox / "upload.part").write_bytes(b"somebody else's")
    intake = _intake(inbox)
    living = intake.begin()
    before = len(os.listdir(inbox))

    removed = _intake(inbox).remove_leftovers()

    assert (before, removed) == (3, 1)
    assert sorted(os.listdir(os.fsencode(inbox))) == sorted([living.name, b"upload.part"])
    living.discard()


def test_a_file_that_two_threads_discard_at_once_is_gone_and_neither_fails(
    inbox: Path,
) -> None:
    intake = _intake(inbox)
    handles = len(os.listdir("/proc/self/fd"))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as threads:
            for _ in range(1000):
                part, together = intake.begin(), Barrier(2)
                for end in [threads.submit(_discard, part, together) for _ in range(2)]:
                    end.result()
    finally:
        sys.setswitchinterval(before)

    assert os.listdir(inbox) == []
    assert len(os.listdir("/proc/self/fd")) == handles


def _discard(part: PartFile, together: Barrier) -> None:
    together.wait()
    part.discard()


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No such file or directory\); name the folder"):
        _intake(tmp_path / "missing")
