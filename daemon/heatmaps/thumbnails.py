"""Small pictures of stored images, for pages: drawn in a process of their own that a bad file may kill."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING

from config.text import printable
from daemon.process import spawn
from trainer.images.read import JudgedFile

if TYPE_CHECKING:
    from daemon.engines.manifest import PreparedEngine
    from storage.queries.results import ResultRow
    from trainer.images.decode import Limits

_START_SECONDS = 60.0  # it needs less than a second; one that takes this long is stuck
# A worker that dies this often in a row without having drawn anything will not do better.
_MOST_STILLBIRTHS = 3


@dataclass(frozen=True, slots=True)
class RendererSetup:
    """What the worker is told at its start."""

    prepared: PreparedEngine
    limits: Limits
    memory_bytes: int  # what drawing may allocate on top of the idle worker


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which picture is asked for."""

    file: JudgedFile
    slice_index: int | None
    weights_sha256: str  # of the model that judged it: another model's heatmap would explain nothing
    side: int  # pixels


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """What was drawn, as WebP."""

    plain: bytes
    heatmap: bytes | None  # None: judged by another model than the one at hand


@dataclass(frozen=True, slots=True)
class NoThumbnail:
    """Why there is none."""

    reason: str


def judged_file(row: ResultRow) -> JudgedFile:
    """Return where the file of a result lies: in its inbox, or where it was moved."""
    if row.moved_to is not None:
        return JudgedFile(b"", row.moved_to, row.sha256)
    return JudgedFile(row.inbox, row.path, row.sha256)


# Larger than any two pictures a page asks for.
_MOST_BYTES = 64 << 20
READY = b"ready"


def encode_answer(answer: Thumbnail | NoThumbnail) -> bytes:
    """Return an answer as plain bytes: what a decoder was made to say is data, never run."""
    if isinstance(answer, NoThumbnail):
        return b"N" + answer.reason.encode("utf-8", "replace")
    length = len(answer.plain).to_bytes(4, "big")
    return b"P" + length + answer.plain + (answer.heatmap or b"")


def decode_answer(data: bytes) -> Thumbnail | NoThumbnail:
    """Return what `encode_answer` was given; raise ValueError for what is no such thing."""
    if data[:1] == b"N":
        return NoThumbnail(printable(data[1:500].decode("utf-8", "replace")))
    length = int.from_bytes(data[1:5], "big")
    plain, heatmap = data[5 : 5 + length], data[5 + length :]
    if data[:1] != b"P" or not _is_webp(plain) or (heatmap and not _is_webp(heatmap)):
        raise ValueError("the drawing process said what it never says")
    return Thumbnail(plain, heatmap or None)


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


class ThumbnailRenderer:
    """Draws one picture at a time; a context manager, for one thread."""

    def __init__(self, setup: RendererSetup, *, seconds: float) -> None:
        self._setup = setup
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._stillborn = 0

    def __enter__(self) -> ThumbnailRenderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def of(self, row: ResultRow, side: int) -> Thumbnail | NoThumbnail:
        """Return the picture of a result, `side` pixels a side; a file that cannot be drawn says why."""
        return self.draw(Wanted(judged_file(row), row.slice_index, row.weights_sha256, side))

    def draw(self, wanted: Wanted, seconds: float | None = None) -> Thumbnail | NoThumbnail:
        """Return one picture; `seconds` instead of the usual limit.

        A worker may die for a reason of its own; a picture over which a second one dies is to blame.
        """
        seconds = self._seconds if seconds is None else seconds
        for _ in range(2):
            connection = self._ready()
            if connection is None:
                return NoThumbnail("the drawing process does not start (bt-daemon doctor)")
            try:
                connection.send(wanted)
                if not connection.poll(seconds):
                    self.close()
                    return NoThumbnail(f"took longer than {seconds:g} s to draw")
                return decode_answer(connection.recv_bytes(_MOST_BYTES))
            except (EOFError, OSError, ValueError):
                self.close()
        return NoThumbnail("crashed the decoder")

    @property
    def process_id(self) -> int | None:
        """The worker's, None while there is none."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the worker; the next picture starts another."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._connection = None

    def _ready(self) -> Connection | None:
        if self._connection is not None:
            return self._connection
        if self._stillborn >= _MOST_STILLBIRTHS:
            return None
        self._process, self._connection = spawn("daemon.heatmaps.thumbnail_main")
        with contextlib.suppress(EOFError, OSError):
            self._connection.send(self._setup)
            begun = self._connection.poll(_START_SECONDS)
            if begun and self._connection.recv_bytes(len(READY)) == READY:
                self._stillborn = 0
                return self._connection
        self.close()
        self._stillborn += 1
        return self._ready()
