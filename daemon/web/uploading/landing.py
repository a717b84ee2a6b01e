"""Land uploads in an inbox: written beside their name, on the disk, then named, whatever came before."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass

from config.settings import Settings
from config.text import printable_name
from daemon.inbox.filters import DONE_SUFFIX, Choice, InboxRules
from daemon.part_files import HiddenPart, holds, open_folder, remove_leftovers
from daemon.web.uploading.upload_inboxes import UploadInbox
from daemon.web.uploading.upload_names import UploadRefusedError, checked_name, names_to_try

_PREFIX = b".bt-upload-"
# At one moment: each holds a file and a place among the requests that are answered.
MOST_UPLOADS = 8
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Landed:
    """A file in the inbox."""

    name: bytes  # what it is called there
    size: int  # bytes
    mtime_ns: int
    is_new: bool  # False: the same bytes were there under that name


class Landing:
    """The limits of uploads, and those under way; may be asked from any thread."""

    def __init__(self, settings: Settings) -> None:
        self.max_bytes = settings.max_bytes
        self._rules = InboxRules(
            include=settings.include, exclude=settings.exclude, done_files=settings.done_files
        )
        self._lock = threading.Lock()
        self._under_way = 0
        self._cleaned: set[bytes] = set()

    def begin(self, inbox: UploadInbox, name: str, size: int | None) -> Upload:
        """Begin a file of `size` bytes, if that is told; raises UploadRefusedError."""
        stored = checked_name(name, Choice(self._rules, inbox.root))
        self.check_size(size or 0)
        with self._lock:
            if self._under_way >= MOST_UPLOADS:
                raise UploadRefusedError(
                    503, f"{MOST_UPLOADS} files are being sent already", hint="send it again when one is done"
                )
            self._under_way += 1
        try:
            self._clean(inbox)
            return Upload(self, _opened_part(inbox, size or 0), stored, marked=self._rules.done_files)
        except OSError as error:
            self.end()
            raise refusal(error) from None
        except BaseException:
            self.end()
            raise

    def check_size(self, size: int) -> None:
        """Raise UploadRefusedError for more bytes than the daemon reads."""
        if size > self.max_bytes:
            raise UploadRefusedError(
                413,
                f"the file is larger than the {self.max_bytes} bytes that are read",
                hint="max_bytes in bt.toml raises the limit, for the daemon too",
            )

    def end(self) -> None:
        """Count one less that is under way."""
        with self._lock:
            self._under_way -= 1

    def _clean(self, inbox: UploadInbox) -> None:
        """Remove what a server that was killed left half-written, once for each inbox."""
        with self._lock:
            if inbox.root in self._cleaned:
                return
            self._cleaned.add(inbox.root)
        remove_leftovers(inbox.root, _PREFIX)


class Upload:
    """One file that comes in. A thread may write while the loop gives it up: a lock is between them."""

    def __init__(self, landing: Landing, part: HiddenPart, name: bytes, *, marked: bool) -> None:
        """`marked`: the inbox waits for a file NAME.done beside each."""
        self._landing = landing
        self._part: HiddenPart | None = part
        self._name = name
        self._marked = marked
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Append bytes; raises UploadRefusedError."""
        with self._lock:
            part = self._open_part()
            self._landing.check_size(part.size + len(data))
            try:
                part.write(data)
            except OSError as error:
                raise refusal(error) from None

    def place(self) -> Landed:
        """Return when the file is on the disk under a name of its own; raises UploadRefusedError."""
        with self._lock:
            part = self._open_part()
            if not part.size:
                raise UploadRefusedError(400, "the file is empty")
            try:
                part.sync()
                landed = self._take_name(part)
                os.fsync(part.folder)
            except OSError as error:
                raise refusal(error) from None
            return landed

    def discard(self) -> None:
        """Leave no part behind; what has been placed stays. May be called twice."""
        with self._lock:
            if self._part is not None:
                self._part.discard()
                self._part = None
                self._landing.end()

    def _open_part(self) -> HiddenPart:
        if self._part is None:
            raise UploadRefusedError(400, "the upload was given up")
        return self._part

    def _take_name(self, part: HiddenPart) -> Landed:
        found = os.fstat(part.handle)
        for name in names_to_try(self._name):
            # Sent again because the answer was lost: the same bytes are the same file.
            if holds(part.folder, name, part.handle):
                there = os.stat(name, dir_fd=part.folder, follow_symlinks=False)
                return Landed(name, part.size, there.st_mtime_ns, is_new=False)
            if part.take_free(name):
                if self._marked:
                    _mark(part.folder, name)
                return Landed(name, part.size, found.st_mtime_ns, is_new=True)
        raise UploadRefusedError(
            409, f"too many files are called {printable_name(self._name)}", hint="rename it and send it again"
        )


def refusal(error: OSError) -> UploadRefusedError:
    """Return the refusal for what the file system answered."""
    if error.errno in _FULL:
        return UploadRefusedError(
            507, "no room is left in the inbox", hint="free some space and send it again"
        )
    words = os.strerror(error.errno) if error.errno else type(error).__name__
    return UploadRefusedError(503, f"the inbox cannot be written: {words}", hint="look at bt-daemon status")


def _opened_part(inbox: UploadInbox, size: int) -> HiddenPart:
    """Begin a part where `size` bytes have room; raises UploadRefusedError, OSError."""
    folder = open_folder(inbox.root)
    try:
        space = os.fstatvfs(folder)
        if size > space.f_bavail * space.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except BaseException:
        os.close(folder)
        raise
    return HiddenPart(folder, _PREFIX)


def _mark(folder: int, name: bytes) -> None:
    """Make the empty file that tells the daemon to take the other."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(name + DONE_SUFFIX, flags, 0o640, dir_fd=folder))
