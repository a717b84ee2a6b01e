"""Proof that a worker sees the very inbox that the head sees: its folder's inode, and files in it.

An inode alone proves little (the root of every ext4 disk is inode 2). So the head puts a hidden file with
random bytes into the inbox for a moment, and the worker says what it reads there; where the head may not
write, both say which files they see at the top of it. A network file system that makes up inodes of its own
on every machine (CIFS with noserverino) is refused: there a file has another identity on each.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import stat
from typing import Any

from config.errors import BtError
from config.store_url import is_store_url, parse_store_url
from config.text import printable

_PREFIX = b".bt-daemon-probe-"
_PROBE_BYTES = 32
_MOST_WITNESSES = 16
_MOST_ENTRIES = 4096


class RootProbe:
    """One inbox as the head asks a worker for it; closed when the worker has answered."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.trouble = ""  # why nothing can be proven, '' if something can
        self._file: bytes = b""
        self._names: list[bytes] = []
        if is_store_url(root):
            return
        self._names = self._write() or _witnesses(root)
        if not os.path.isdir(root):
            self.trouble = "is away on the daemon's machine"
        elif not self._names:
            self.trouble = (
                "holds no file, and the daemon may write none there: nothing shows that it is the same"
            )

    def _write(self) -> list[bytes]:
        name = _PREFIX + secrets.token_hex(8).encode()
        path = os.path.join(self.root, name)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            self._file = path
            with open(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(_PROBE_BYTES))
        except OSError:
            return []
        return [name]

    def question(self) -> dict[str, Any]:
        """Return what the worker is asked."""
        return {"path": self.root, "names": self._names}

    def refusal(self, answer: object) -> str:
        """Return how the worker's answer differs from what is seen here, '' if it does not."""
        if self.trouble or not isinstance(answer, dict):
            return self.trouble or "was not looked at there"
        if answer.get("trouble"):
            return f"cannot be read there ({printable(str(answer['trouble'])[:200])})"
        if is_store_url(self.root):
            return ""
        here = prove_root(self.question())
        if answer.get("files") != here.get("files") or not here.get("files"):
            return "is another folder there, or its files cannot be read"
        if answer.get("inode") != here.get("inode"):
            return "has another inode there (CIFS: mount it without noserverino)"
        return ""

    def close(self) -> None:
        """Take the file away again."""
        if self._file:
            with contextlib.suppress(OSError):
                os.unlink(self._file)
            self._file = b""


def prove_root(question: dict[str, Any]) -> dict[str, Any]:
    """Return what is seen of an inbox on this machine."""
    root: bytes = question["path"]
    if is_store_url(root):
        return {"trouble": _store_trouble(root)}
    try:
        found = os.stat(root)
        if not stat.S_ISDIR(found.st_mode):
            return {"trouble": "not a folder"}
        files = [_fingerprint(os.path.join(root, name)) for name in question["names"]]
        with os.scandir(root):  # what is judged must be found, too
            pass
    except OSError as error:
        return {"trouble": error.strerror or "unreadable"}
    return {"inode": found.st_ino, "files": "\n".join(files) if all(files) else ""}


def _store_trouble(root: bytes) -> str:
    """Return why a store cannot be listed from here, '' if it can: each object is known by its ETag then."""
    from daemon.store.object_listing import probe

    try:
        trouble = probe(parse_store_url(root.decode()))
    except (ModuleNotFoundError, UnicodeDecodeError, BtError) as error:
        return str(error)
    return "" if trouble is None else f"the object store {trouble.words}"


def _fingerprint(path: bytes) -> str:
    """Return what tells a file from every other: inode, size and how it begins; "" if it cannot be read."""
    try:
        with open(path, "rb") as stream:
            found = os.fstat(stream.fileno())
            begin = hashlib.sha256(stream.read(1 << 16)).hexdigest()
    except OSError:
        return ""
    return f"{found.st_ino} {found.st_size} {begin}"


def _witnesses(root: bytes) -> list[bytes]:
    try:
        with os.scandir(root) as entries:
            some = itertools.islice(entries, _MOST_ENTRIES)
            names = sorted(one.name for one in some if one.is_file(follow_symlinks=False))
    except OSError:
        return []
    return names[:_MOST_WITNESSES]
