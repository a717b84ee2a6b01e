"""File system of a path, and whether it is a network's.

The kernel's mount table is the only source: no call says it for a path that is slow or hangs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MOUNT_TABLE = Path("/proc/self/mountinfo")

# Changes made by another machine raise no events here, and locks and shared memory cannot be relied on.
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "9p", "afs", "coda", "ceph", "acfs"}
    | {"glusterfs", "lustre", "beegfs", "gpfs", "orangefs", "pvfs2", "ocfs2", "gfs2", "davfs", "davfs2"}
    | {"prl_fs", "vboxsf", "vmhgfs", "drvfs", "virtiofs"}
)
# FUSE is a door: what stands behind these is local.
_LOCAL_FUSE = frozenset({"fuse.ntfs-3g", "fuse.exfat", "fuse.lxcfs", "fuse.portal", "fuse.fuse-overlayfs"})


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the mount table."""

    point: str  # absolute path
    filesystem: str  # ext4, nfs4, fuse.sshfs, ...
    source: str  # /dev/vda, server:/export, ...


def filesystem_of(path: str | os.PathLike[str], table: Path | None = None) -> str:
    """Return the file system's name ("ext4", "nfs4", "fuse.sshfs"), "" where nothing can be known.

    The path need not exist: its nearest existing parent decides.
    """
    found = mount_of(path, table)
    return found.filesystem if found else ""


def is_network_filesystem(name: str) -> bool:
    """Tell whether a file system of that name is shared with other machines (or may be: FUSE)."""
    name = name.lower()
    if name in _LOCAL_FUSE:
        return False
    return name in _NETWORK or name == "fuse" or name.startswith("fuse.")


def mount_of(path: str | os.PathLike[str], table: Path | None = None) -> Mount | None:
    """Return the mount that holds `path`, None where the platform has no mount table."""
    real = os.path.realpath(path)
    best: Mount | None = None
    for mount in mounts(table):
        # Later lines win among equals: a mount over a mount hides it.
        if _is_below(real, mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def mounts(table: Path | None = None) -> list[Mount]:
    """Return all mounts, empty where the platform has no such table (man 5 proc, mountinfo)."""
    try:
        text = (table or MOUNT_TABLE).read_text("utf-8", "surrogateescape")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if separator and len(left) >= 5 and len(right) >= 2:
            found.append(Mount(_plain(left[4]), right[0], _plain(right[1])))
    return found


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _plain(field: str) -> str:
    r"""Undo the kernel's escapes: a blank in a name is written \040."""
    escaped = os.fsencode(field)
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), escaped))


_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def opened_folder(base: bytes, below: bytes, *, make: bool = False) -> Iterator[int | None]:
    """Open the folder `below` a base without following links below it; None if it is not there.

    With `make` missing folders are made, for the owner alone.
    """
    handles: list[int] = []
    try:
        try:
            handles.append(os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            for name in filter(None, below.split(b"/")):
                if name == b"..":
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=handles[-1])
                handles.append(os.open(name, _FOLDER_FLAGS, dir_fd=handles[-1]))
        except (FileNotFoundError, NotADirectoryError):
            if make:
                raise
            yield None
            return
        yield handles[-1]
    finally:
        for handle in handles:
            os.close(handle)
