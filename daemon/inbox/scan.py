"""Scan an inbox: a walk in bounded pieces that follows no symlink and opens no file."""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from config.text import printable_name
from daemon.inbox.filters import Choice, why_passed_over
from storage.records import FileVersion

# So many odd entries are told apart; a folder with more has been complained about enough.
_ODD_REMEMBERED = 10_000


class FileStat(NamedTuple):
    """One file as one lstat saw it."""

    version: FileVersion
    device: int
    ctime_ns: int

    @property
    def fingerprint(self) -> tuple[int, ...]:
        """What must stay the same from look to look; ctime too, for no copying tool can set it back."""
        version = self.version
        return (self.device, version.inode, version.size, version.mtime_ns, self.ctime_ns)


class OddEntries:
    """Logs what is never read, once for each path as far as memory goes, and counts it."""

    def __init__(self, root: bytes, log: logging.Logger) -> None:
        self._root = root
        self._log = log
        self._said: set[bytes] = set()
        self.count = 0

    def __call__(self, path: bytes, kind: str) -> None:
        """Take note of an odd entry at a path relative to the inbox."""
        if path in self._said or len(self._said) >= _ODD_REMEMBERED:
            return
        self._said.add(path)
        self.count += 1
        self._log.warning("ignored %s: %s", printable_name(os.path.join(self._root, path)), kind)


class Walk:
    """One scan of a folder of an inbox, taken piece by piece."""

    def __init__(
        self,
        root: bytes,
        inbox_id: int,
        choice: Choice,
        odd: Callable[[bytes, str], None],
        *,
        start: bytes = b"",
        recursive: bool = True,
    ) -> None:
        """`odd` is told the relative path and kind of each entry that is never read (pipe, link, ...)."""
        self._root = root
        self._inbox_id = inbox_id
        self._choice = choice
        self._odd = odd
        self._recursive = recursive
        self._looks = self._walk(start)
        self.passed_over: Counter[str] = Counter()  # by why: hidden, leftover or the ending
        self.vanished = False  # whether a folder went away while it was looked for
        self.finished = False

    def piece(self, limit: int) -> list[FileStat]:
        """Return the looks of about the next `limit` entries; `finished` is set after the last."""
        taken = list(islice(self._looks, limit))
        self.finished = len(taken) < limit
        return [look for look in taken if look is not None]

    def _walk(self, start: bytes) -> Iterator[FileStat | None]:
        folders = [start]  # relative; a list of names costs little, an open scandir per level would cost fds
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(os.path.join(self._root, folder)) as entries:
                    for entry in entries:
                        yield self._entry(folder, entry, folders)
            except OSError as error:
                # Deleted meanwhile, or not ours to read: the next scan asks again.
                if isinstance(error, FileNotFoundError | NotADirectoryError):
                    self.vanished = True
                else:
                    self._odd(folder, f"folder that cannot be read ({error.strerror})")

    def _entry(self, folder: bytes, entry: os.DirEntry[bytes], folders: list[bytes]) -> FileStat | None:
        name = entry.name
        try:
            if entry.is_dir(follow_symlinks=False):
                path = os.path.join(folder, name)
                if self._recursive and self._choice.enters_folder(path):
                    folders.append(path)
                elif self._recursive:
                    self._pass_over(name)
                return None
            if not self._choice.takes_file(folder, name):
                self._pass_over(name)
                return None
            found = entry.stat(follow_symlinks=False)
        except OSError:
            return None  # gone between listing and looking
        if not stat.S_ISREG(found.st_mode):
            self._odd(os.path.join(folder, name), kind_of(found.st_mode))
            return None
        return _look(self._inbox_id, folder, name, found)

    def _pass_over(self, name: bytes) -> None:
        if why := why_passed_over(name):
            self.passed_over[why] += 1


@dataclass(slots=True)
class Scanning:
    """The scan of the whole inbox: the one that runs, the last one, the next one."""

    walk: Walk | None = None
    started: float = 0.0
    finished: float | None = None
    seconds: float | None = None
    due: float = 0.0
    wanted_again: bool = False  # asked for while one was running
    events_at_start: int = 0


def look_at(root: bytes, inbox_id: int, folder: bytes, name: bytes) -> FileStat | str | None:
    """Look at one file: a `FileStat`, the kind of an odd entry in words, None if there is none."""
    try:
        found = os.lstat(os.path.join(root, folder, name))
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return kind_of(found.st_mode)
    return _look(inbox_id, folder, name, found)


def kind_of(mode: int) -> str:
    """Name what is no regular file."""
    kinds = (
        (stat.S_ISLNK, "symbolic link"),
        (stat.S_ISDIR, "folder"),
        (stat.S_ISFIFO, "named pipe"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISCHR, "character device"),
        (stat.S_ISBLK, "block device"),
    )
    return next((name for is_kind, name in kinds if is_kind(mode)), "special file")


def _look(inbox_id: int, folder: bytes, name: bytes, found: os.stat_result) -> FileStat:
    version = FileVersion(inbox_id, folder, name, found.st_size, found.st_mtime_ns, found.st_ino)
    return FileStat(version, found.st_dev, found.st_ctime_ns)
