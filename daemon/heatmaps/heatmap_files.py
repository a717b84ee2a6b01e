"""Heatmaps made during the run: one small JPEG per judged image, from the forward pass it had anyway.

DIR/0000/12.jpg belongs to the image with the id 12, which `results` shows and `show` takes.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from config.files import atomic_write
from config.text import printable
from daemon.heatmaps.overlay import caption, class_shown
from trainer.images.arrays import Floats, Grey
from trainer.images.warm_map import overlay
from trainer.model.prediction import Prediction
from trainer.model.spec import ModelSpec

# In one folder; directories of millions are slow to list.
_PER_FOLDER = 10_000
_QUALITY = 85


class HeatmapFiles:
    """Writes them; a disk that takes none costs the heatmap, never the result."""

    def __init__(self, folder: str, spec: ModelSpec, weights_sha256: str) -> None:
        self._folder = folder
        self._spec = spec
        self._weights = weights_sha256
        self._failed = False

    def write(
        self,
        file_id: int,
        picture: Grey,
        maps: Floats,
        prediction: Prediction,
    ) -> None:
        """Write the heatmap of a network input (S, S[, 3]) with its maps (classes, h, w)."""
        image = overlay(picture, maps[class_shown(prediction, self._spec)], picture.shape[0])
        words = "; ".join(caption(prediction, self._spec, self._weights))
        folder = Path(self._folder) / f"{file_id // _PER_FOLDER:04d}"
        try:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(0o700)
            # Not durable: it can be drawn again, and a flush for each would cost more than the drawing.
            with atomic_write(folder / f"{file_id}.jpg", durable=False) as stream:
                image.save(stream, "JPEG", quality=_QUALITY, comment=words.encode("utf-8", "replace"))
        except OSError as error:
            if not self._failed:
                sys.stderr.write(
                    f"no heatmaps can be written to {printable(self._folder)}: {error.strerror}\n"
                )
            self._failed = True
