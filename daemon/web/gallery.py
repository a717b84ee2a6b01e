"""Pictures for many browsers from one drawing process: one at a time, the latest kept in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from daemon.heatmaps.raw_picture import RawPicture
from daemon.heatmaps.renderers import ModelRenderers
from daemon.heatmaps.thumbnails import BUSY, NoThumbnail, Thumbnail
from storage.queries.results import ResultRow

# Some thousand thumbnails; what does not fit is drawn again.
_MOST_BYTES = 64 << 20

# A picture that takes long holds up none that is kept, and no thread of the pages for longer than this:
# the pages ask again for one that was not drawn in time.
_PATIENCE_SECONDS = 2.0

_Key = tuple[str, int, int]  # kind, result, side or slice
_Picture = TypeVar("_Picture", Thumbnail, RawPicture)


class Gallery:
    """Draws and remembers; may be asked from any thread."""

    def __init__(self, pictures: ModelRenderers) -> None:
        self._pictures = pictures
        self._lock = threading.Lock()  # of what is kept
        self._drawing = threading.Lock()  # of the drawing process
        self._kept: OrderedDict[_Key, Thumbnail | RawPicture] = OrderedDict()
        self._bytes = 0

    def of(self, row: ResultRow, side: int) -> Thumbnail | NoThumbnail:
        """Return a result's picture, `side` pixels a side, or why there is none."""
        return self._kept_or_made(
            Thumbnail, ("picture", row.result_id, side), lambda: self._pictures.of(row, side)
        )

    def heat(self, row: ResultRow, slice_index: int) -> RawPicture | NoThumbnail:
        """Return what a result's model sees in a slice of its file, or why that is not drawn."""
        return self._kept_or_made(
            RawPicture, ("heat", row.result_id, slice_index), lambda: self._pictures.heat(row, slice_index)
        )

    def _kept_or_made(
        self, kind: type[_Picture], key: _Key, make: Callable[[], _Picture | NoThumbnail]
    ) -> _Picture | NoThumbnail:
        if isinstance(kept := self._found(key), kind):
            return kept
        if not self._drawing.acquire(timeout=_PATIENCE_SECONDS):
            return NoThumbnail(BUSY)
        try:
            if isinstance(kept := self._found(key), kind):  # drawn for somebody else meanwhile
                return kept
            made = make()
        finally:
            self._drawing.release()
        if isinstance(made, kind):
            with self._lock:
                self._keep(key, made)
        return made

    def _found(self, key: _Key) -> Thumbnail | RawPicture | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
            return kept

    def _keep(self, key: _Key, picture: Thumbnail | RawPicture) -> None:
        self._kept[key] = picture
        self._bytes += _size(picture)
        while self._bytes > _MOST_BYTES:
            self._bytes -= _size(self._kept.popitem(last=False)[1])


def _size(picture: Thumbnail | RawPicture) -> int:
    if isinstance(picture, RawPicture):
        return len(picture.pixels)
    return len(picture.plain) + len(picture.heatmap or b"")
