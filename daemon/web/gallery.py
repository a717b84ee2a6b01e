"""Pictures for many browsers from one drawing process: one at a time, the latest kept in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict

from daemon.heatmaps.renderers import ModelRenderers
from daemon.heatmaps.thumbnails import NoThumbnail, Thumbnail
from storage.queries.results import ResultRow

# Some thousand thumbnails; what does not fit is drawn again.
_MOST_BYTES = 64 << 20

# A picture that takes long holds up none that is kept, and no thread of the pages for longer than this.
_PATIENCE_SECONDS = 2.0

_Key = tuple[int, int]  # result, side


class Gallery:
    """Draws and remembers; may be asked from any thread."""

    def __init__(self, pictures: ModelRenderers) -> None:
        self._pictures = pictures
        self._lock = threading.Lock()  # of what is kept
        self._drawing = threading.Lock()  # of the drawing process
        self._kept: OrderedDict[_Key, Thumbnail] = OrderedDict()
        self._bytes = 0

    def of(self, row: ResultRow, side: int) -> Thumbnail | NoThumbnail:
        """Return a result's picture, `side` pixels a side, or why there is none."""
        key = (row.result_id, side)
        if (kept := self._found(key)) is not None:
            return kept
        if not self._drawing.acquire(timeout=_PATIENCE_SECONDS):
            return NoThumbnail("other pictures are being drawn; try again")
        try:
            if (kept := self._found(key)) is not None:  # drawn for somebody else meanwhile
                return kept
            drawn = self._pictures.of(row, side)
        finally:
            self._drawing.release()
        if isinstance(drawn, Thumbnail):
            with self._lock:
                self._keep(key, drawn)
        return drawn

    def _found(self, key: _Key) -> Thumbnail | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
            return kept

    def _keep(self, key: _Key, picture: Thumbnail) -> None:
        self._kept[key] = picture
        self._bytes += _size(picture)
        while self._bytes > _MOST_BYTES:
            self._bytes -= _size(self._kept.popitem(last=False)[1])


def _size(picture: Thumbnail) -> int:
    return len(picture.plain) + len(picture.heatmap or b"")
