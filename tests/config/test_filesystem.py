"""The mount table: which file system a path is on, and which kinds are a network's."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.filesystem import filesystem_of, is_network_filesystem, mount_of, mounts

TABLE = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
22 21 0:20 / /mnt rw - nfs4 server:/export rw,vers=4.2
23 22 0:21 / /mnt/local rw - xfs /dev/vdb rw
24 21 0:22 / /mnt\\040with\\040blank rw - cifs //server/share rw
25 21 0:23 / /over rw - ext4 /dev/vdc rw
26 21 0:24 / /over rw - fuse.sshfs me@there: rw
broken line
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(TABLE)
    return path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/srv/x", "ext4"),
        ("/mnt/inbox/a/b.png", "nfs4"),
        ("/mnt", "nfs4"),
        ("/mnt2/x", "ext4"),
        ("/mnt/local/x", "xfs"),
        ("/mnt with blank/x", "cifs"),
        ("/over/x", "fuse.sshfs"),
    ],
)
def test_innermost_and_latest_mount_decides(table: Path, path: str, expected: str) -> None:
    assert filesystem_of(path, table) == expected


def test_symlink_is_followed_to_where_the_files_are(table: Path, tmp_path: Path) -> None:
    link = tmp_path / "inbox"
    link.symlink_to("/mnt/inbox")

    found = mount_of(link, table)

    assert found is not None
    assert found.source == "server:/export"


def test_platform_without_a_table_says_nothing(tmp_path: Path) -> None:
    assert mounts(tmp_path / "missing") == []
    assert filesystem_of("/", tmp_path / "missing") == ""


def test_this_machine_has_a_file_system_at_its_root() -> None:
    if Path("/proc/self/mountinfo").exists():
        assert filesystem_of("/")


@pytest.mark.parametrize("name", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse", "ceph", "NFS"])
def test_network_kinds(name: str) -> None:
    assert is_network_filesystem(name)


@pytest.mark.parametrize("name", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuseblk", "zfs", "apfs", ""])
def test_local_kinds(name: str) -> None:
    assert not is_network_filesystem(name)
