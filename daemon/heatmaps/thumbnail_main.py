"""The process that draws stored images for people: decode, judge, overlay, shrink.

    python -m daemon.heatmaps.thumbnail_main DESCRIPTOR

Started by `daemon.heatmaps.thumbnails`, which replaces it when a file makes it hang, grow or die.
"""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

from daemon.engines.base import Engine
from daemon.engines.factory import open_engine
from daemon.heatmaps.overlay import class_shown, overlay
from daemon.heatmaps.thumbnails import READY, NoThumbnail, RendererSetup, Thumbnail, Wanted, encode_answer
from daemon.process import end_with_the_connection, limit_memory
from trainer.images.decode import PictureError, decode
from trainer.images.read import read_judged
from trainer.images.silence import silence_c_libraries
from trainer.model.prediction import judge
from trainer.model.preprocess import preprocess
from trainer.model.weights import Weights, read_weights

_QUALITY = 72  # of WebP: small enough for a thousand in one page, artefacts not visible at this size


class _Artist:
    def __init__(self, setup: RendererSetup) -> None:
        self._limits = setup.limits
        self._weights: Weights = read_weights(Path(setup.prepared.weights))
        self._engine: Engine = open_engine(setup.prepared)
        size = self._weights.spec.preprocessing.image_size
        self._engine.run(np.zeros((1, size, size), dtype=np.uint8))
        limit_memory(setup.memory_bytes)

    def draw(self, wanted: Wanted) -> Thumbnail | NoThumbnail:
        """Return the slice that was judged and, of the same model, its heatmap."""
        spec = self._weights.spec
        try:
            content = read_judged(wanted.file, self._limits)
            found = decode(content.data, self._limits, spec.preprocessing.image_size).slices
        except PictureError as error:
            return NoThumbnail(error.reason)
        except MemoryError:
            return NoThumbnail("needs more memory than decode_memory allows")
        except Exception as error:  # noqa: BLE001 - whatever a file does, only its picture is missing
            return NoThumbnail(f"could not be drawn ({type(error).__name__})")
        chosen = next((one for one in found if one.index == wanted.slice_index), found[0])
        pixels = preprocess(chosen.image, spec.preprocessing)
        plain = Image.fromarray(pixels).resize((wanted.side, wanted.side), Image.Resampling.BICUBIC)
        if wanted.weights_sha256 != self._weights.sha256:
            return Thumbnail(_webp(plain), None)
        output = self._engine.run(pixels[None])
        (prediction,) = judge(output.logits, output.features, spec, self._weights.tensors)
        activation = output.maps[0, class_shown(prediction, spec)]
        return Thumbnail(_webp(plain), _webp(overlay(pixels, activation, wanted.side)))


def main(arguments: Sequence[str]) -> None:
    """Serve until the parent closes its end."""
    connection = Connection(int(arguments[0]))
    end_with_the_connection(connection.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    setup: RendererSetup = connection.recv()
    silence_c_libraries()
    with contextlib.suppress(EOFError, OSError):
        artist = _Artist(setup)
        connection.send_bytes(READY)
        while True:
            connection.send_bytes(encode_answer(artist.draw(connection.recv())))


def _webp(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=_QUALITY, method=2)
    return out.getvalue()


if __name__ == "__main__":
    main(sys.argv[1:])
