"""Slices for a viewer, read in a process of their own that a bad file may kill."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from daemon.heatmaps.picture_process import NoAnswerError, PictureProcess
from daemon.heatmaps.raw_picture import MOST_SIDE, RawPicture
from daemon.heatmaps.thumbnails import BUSY, NoThumbnail, decode_raw_answer
from trainer.images.read import JudgedFile

if TYPE_CHECKING:
    from config.settings import Settings
    from trainer.images.decode import Limits
    from trainer.model.spec import Preprocessing

_MOST_BYTES = 3 * MOST_SIDE * MOST_SIDE + (64 << 10)
# No thread of the pages waits longer for a file that another one looks at.
_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ReaderSetup:
    """What the process is told at its start."""

    limits: Limits
    memory_bytes: int  # what reading may allocate on top of the idle process


@dataclass(frozen=True, slots=True)
class WantedSlice:
    """Which slice is asked for, and through whose eyes."""

    file: JudgedFile
    slice_index: int
    preprocessing: Preprocessing | None  # of the model whose window and frame are told; None: not known


class SliceReader:
    """Reads one slice at a time; a context manager that may be asked from any thread."""

    def __init__(self, setup: ReaderSetup, *, seconds: float) -> None:
        self._lock = threading.Lock()
        self._process = PictureProcess(
            "daemon.web.viewer.slice_reader_main", setup, seconds=seconds, most_bytes=_MOST_BYTES
        )

    def __enter__(self) -> SliceReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, wanted: WantedSlice) -> RawPicture | NoThumbnail:
        """Return a slice with its own tones, or why there is none.

        A pixel's number is `intercept + slope * pixel`; what is no number is the lowest. Facts besides:
        `slice`, `slices`, `low` and `high` (shown black and white; as the network saw it where that is
        known), `inverted` (low numbers are bright), `ratio` (how many times as high as wide a pixel is),
        `spacing` (mm between rows and columns, None: not said), `reduced` (by which factor the slice was
        made smaller, by averaging), and `square`, the network's input in shares of width and height (left,
        upper, right, lower), None where no model is known. Colours come as 24 bits a pixel, RGB, if the model
        sees them.
        """
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            return NoThumbnail(BUSY)
        try:
            return self._process.ask(wanted, decode_raw_answer)
        except NoAnswerError as error:
            return NoThumbnail(str(error))
        finally:
            self._lock.release()

    @property
    def process_id(self) -> int | None:
        """The process that reads, None while there is none."""
        return self._process.process_id

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._process.close()


def slice_reader(settings: Settings) -> SliceReader:
    """Return what reads slices within the limits of the settings."""
    from trainer.images.picture import limits_of

    setup = ReaderSetup(limits_of(settings), settings.decode_memory)
    return SliceReader(setup, seconds=settings.decode_seconds)
