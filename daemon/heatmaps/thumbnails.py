"""Small pictures of stored images, for pages: drawn in a process of their own that a bad file may kill."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from config.text import printable
from daemon.heatmaps.picture_process import NoAnswerError, PictureProcess
from daemon.heatmaps.raw_picture import RawPicture, decode_raw
from trainer.images.read import JudgedFile

if TYPE_CHECKING:
    from daemon.engines.manifest import PreparedEngine
    from storage.queries.results import ResultRow
    from trainer.images.decode import Limits


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
class WantedHeat:
    """The map of which slice is asked for, alone."""

    file: JudgedFile
    slice_index: int
    weights_sha256: str  # of the model that is to look at it


@dataclass(frozen=True, slots=True)
class NoThumbnail:
    """Why there is none."""

    reason: str


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """What was drawn, as WebP."""

    plain: bytes
    heatmap: bytes | None  # None: judged by another model than the one at hand, or one without maps


def judged_file(row: ResultRow) -> JudgedFile:
    """Return where the file of a result lies: in its inbox, or where it was moved."""
    if row.moved_to is not None:
        return JudgedFile(b"", row.moved_to, row.sha256)
    return JudgedFile(row.inbox, row.path, row.sha256)


# Said where another picture takes long; all other reasons are about the file.
BUSY = "other pictures are being drawn; try again"
# Larger than any two pictures a page asks for.
_MOST_BYTES = 64 << 20


def encode_answer(answer: Thumbnail | NoThumbnail) -> bytes:
    """Return an answer as plain bytes: what a decoder was made to say is data, never run."""
    if isinstance(answer, NoThumbnail):
        return b"N" + answer.reason.encode("utf-8", "replace")
    length = len(answer.plain).to_bytes(4, "big")
    return b"P" + length + answer.plain + (answer.heatmap or b"")


def decode_answer(data: bytes) -> Thumbnail | NoThumbnail:
    """Return what `encode_answer` was given; raise ValueError for what is no such thing."""
    if data[:1] == b"N":
        return NoThumbnail(_reason(data))
    length = int.from_bytes(data[1:5], "big")
    plain, heatmap = data[5 : 5 + length], data[5 + length :]
    if data[:1] != b"P" or not _is_webp(plain) or (heatmap and not _is_webp(heatmap)):
        raise ValueError("the drawing process said what it never says")
    return Thumbnail(plain, heatmap or None)


def decode_raw_answer(data: bytes) -> RawPicture | NoThumbnail:
    """Return a raw picture or why there is none; raise ValueError for what is neither."""
    return decode_raw(data) if data[:1] != b"N" else NoThumbnail(_reason(data))


def _reason(data: bytes) -> str:
    return printable(data[1:500].decode("utf-8", "replace"))


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


class ThumbnailRenderer:
    """Draws one picture at a time; a context manager, for one thread."""

    def __init__(self, setup: RendererSetup, *, seconds: float) -> None:
        self._process = PictureProcess(
            "daemon.heatmaps.thumbnail_main", setup, seconds=seconds, most_bytes=_MOST_BYTES
        )

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
        """Return one picture; `seconds` instead of the usual limit."""
        try:
            return self._process.ask(wanted, decode_answer, seconds)
        except NoAnswerError as error:
            return NoThumbnail(str(error))

    def heat(self, wanted: WantedHeat) -> RawPicture | NoThumbnail:
        """Return a slice's map alone: 0..255, relative to its largest value.

        Facts: `square`, the part of the slice that it covers, in shares of its width and height (left,
        upper, right, lower), and `score`, the model's score of this slice alone.
        """
        try:
            return self._process.ask(wanted, decode_raw_answer)
        except NoAnswerError as error:
            return NoThumbnail(str(error))

    @property
    def process_id(self) -> int | None:
        """The worker's, None while there is none."""
        return self._process.process_id

    def close(self) -> None:
        """End the worker; the next picture starts another."""
        self._process.close()
