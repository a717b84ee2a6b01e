"""Identity of an inbox's root: tell when the folder at its path was replaced or unmounted."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RootIdentity:
    """What makes a folder this folder and no other of the same name."""

    device: int
    inode: int
    mounted: bool  # whether a file system is mounted right here


def identify(root: bytes) -> RootIdentity | None:
    """Return what is at `root` now, None if no folder is."""
    try:
        found = os.stat(root)
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode):
        return None
    return RootIdentity(found.st_dev, found.st_ino, os.path.ismount(root))


def is_held(root: bytes, held: RootIdentity) -> bool:
    """Tell in one system call whether `root` is still that folder."""
    try:
        found = os.stat(root)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (held.device, held.inode)


def is_unmounted(root: bytes, held: RootIdentity, found: RootIdentity) -> bool:
    """Tell whether `found` is only the empty mount point of the file system that `held` was.

    Files put into the bare folder are real files: then it is taken for what it is.
    """
    return held.mounted and not found.mounted and _is_empty(root)


def is_real_folder(path: bytes) -> bool:
    """Tell whether a folder, not a link to one, is at `path`."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _is_empty(root: bytes) -> bool:
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except OSError:
        return True
