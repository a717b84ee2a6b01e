"""Renderers, one process per model: each result is drawn by the model that judged it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from daemon.engines.manifest import PreparedEngine
from daemon.heatmaps.model_lookup import NOT_HERE, ModelsAtHand
from daemon.heatmaps.raw_picture import RawPicture
from daemon.heatmaps.thumbnails import (
    NoThumbnail,
    RendererSetup,
    Thumbnail,
    ThumbnailRenderer,
    WantedHeat,
    judged_file,
)
from storage.queries.results import ResultRow
from trainer.model.identity import default_weights, weights_sha256

if TYPE_CHECKING:
    from config.settings import Settings

# Each holds a network and its libraries, some hundred MB.
_MOST_PROCESSES = 2


class ModelRenderers:
    """Draws one picture at a time, as `thumbnails.ThumbnailRenderer` does for one model; a context manager.

    A result whose model is not at hand is drawn without a heatmap, as the shipped model would see it.
    """

    def __init__(self, models: ModelsAtHand, start: Callable[[PreparedEngine], ThumbnailRenderer]) -> None:
        """`start` returns what draws with a model."""
        self._models = models
        self._start = start
        self._artists: OrderedDict[str, ThumbnailRenderer] = OrderedDict()
        self._shipped = ""

    def __enter__(self) -> ModelRenderers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def of(self, row: ResultRow, side: int) -> Thumbnail | NoThumbnail:
        """Return the picture of a result, `side` pixels a side; a file that cannot be drawn says why."""
        sha256 = row.weights_sha256
        artist = self._artist(sha256) or self._artist(self._default())
        return NoThumbnail("no model to draw with") if artist is None else artist.of(row, side)

    def heat(self, row: ResultRow, slice_index: int) -> RawPicture | NoThumbnail:
        """Return what the model of a result sees in a slice of its file; see `ThumbnailRenderer.heat`."""
        artist = self._artist(row.weights_sha256)
        if artist is None:
            return NoThumbnail(NOT_HERE)
        return artist.heat(WantedHeat(judged_file(row), slice_index, row.weights_sha256))

    def close(self) -> None:
        """End the drawing processes; the next picture starts another."""
        while self._artists:
            self._artists.popitem()[1].close()

    def _artist(self, sha256: str) -> ThumbnailRenderer | None:
        found = self._artists.get(sha256)
        if found is None:
            engine = self._models.engine(sha256)
            if engine is None:
                return None
            while len(self._artists) >= _MOST_PROCESSES:
                self._artists.popitem(last=False)[1].close()
            found = self._artists[sha256] = self._start(engine)
        self._artists.move_to_end(sha256)
        return found

    def _default(self) -> str:
        self._shipped = self._shipped or weights_sha256(default_weights())
        return self._shipped


def drawing(models: ModelsAtHand, settings: Settings) -> ModelRenderers:
    """Return what draws results within the limits of the settings."""
    from trainer.images.picture import limits_of

    limits = limits_of(settings)
    return ModelRenderers(
        models,
        lambda prepared: ThumbnailRenderer(
            RendererSetup(prepared, limits, settings.decode_memory), seconds=settings.decode_seconds
        ),
    )
