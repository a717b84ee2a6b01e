"""What a walk over an inbox sees, in pieces."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from daemon.inbox.filters import Choice, InboxRules
from daemon.inbox.scan import FileStat, Walk, look_at


def _walk(root: Path, odd: list[tuple[bytes, str]] | None = None, *, recursive: bool = True) -> Walk:
    told = [] if odd is None else odd
    name = os.fsencode(root)
    return Walk(
        name,
        1,
        Choice(InboxRules(), name),
        lambda path, kind: told.append((path, kind)),
        recursive=recursive,
    )


def test_a_walk_in_pieces_sees_every_file_once(tmp_path: Path) -> None:
    for number in range(40):
        folder = tmp_path / str(number % 4)
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.png").write_bytes(b"whole")
    walk = _walk(tmp_path)

    pieces = []
    while not walk.finished:
        pieces.append(walk.piece(7))

    assert all(len(piece) <= 7 for piece in pieces)
    seen = [look.version.path for piece in pieces for look in piece]
    assert sorted(seen) == sorted(b"%d/%d.png" % (number % 4, number) for number in range(40))


def test_a_look_holds_what_lstat_says(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"whole")
    found = os.lstat(tmp_path / "a.png")

    look = look_at(os.fsencode(tmp_path), 1, b"", b"a.png")

    assert isinstance(look, FileStat)
    version = look.version
    assert (version.size, version.mtime_ns, version.inode) == (5, found.st_mtime_ns, found.st_ino)
    assert (look.device, look.ctime_ns) == (found.st_dev, found.st_ctime_ns)


def test_what_is_no_regular_file_is_named_and_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder-link").symlink_to(tmp_path)
    here = os.getcwd()
    os.chdir(tmp_path)  # a socket's address has room for a short path only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    os.chdir(here)
    odd: list[tuple[bytes, str]] = []

    looks = _walk(tmp_path, odd).piece(100)

    assert looks == []
    assert sorted(odd) == [
        (b"folder-link", "symbolic link"),
        (b"link", "symbolic link"),
        (b"pipe", "named pipe"),
        (b"socket", "socket"),
    ]


def test_a_folder_that_vanishes_during_a_walk_ends_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"whole")
    walk = _walk(tmp_path)
    walk.piece(2)
    (tmp_path / "a" / "x.png").unlink()
    (tmp_path / "a").rmdir()

    looks = walk.piece(100)

    assert [look.version.path for look in looks] == [b"b/x.png"]
    assert walk.finished


def test_a_walk_that_does_not_recurse_stays_at_the_top(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(b"whole")
    (tmp_path / "b.png").write_bytes(b"whole")

    looks = _walk(tmp_path, recursive=False).piece(100)

    assert [look.version.path for look in looks] == [b"b.png"]
