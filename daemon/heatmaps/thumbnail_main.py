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
from daemon.heatmaps.kept_stack import KeptStack
from daemon.heatmaps.overlay import class_shown
from daemon.heatmaps.picture_process import READY
from daemon.heatmaps.raw_picture import Fact, RawPicture, encode_raw
from daemon.heatmaps.thumbnails import (
    NoThumbnail,
    RendererSetup,
    Thumbnail,
    Wanted,
    WantedHeat,
    encode_answer,
)
from daemon.process import end_with_the_connection, limit_memory, return_free_memory
from daemon.store.source_reader import read_judged_source
from trainer.images.decode import PictureError, ReadFailure, decode
from trainer.images.silence import silence_c_libraries
from trainer.images.warm_map import overlay, strengths
from trainer.model.foreign_network import WITHOUT_MAPS
from trainer.model.prediction import judge
from trainer.model.preprocess import input_frame, preprocess
from trainer.model.weights import Weights, read_weights

_HEAT_SIDE = 128  # pixels: a browser's own enlarging of the network's few cells shows their edges
_IDLE_SECONDS = 10.0  # after which a volume that was looked at is let go
_QUALITY = 72  # of WebP: small enough for a thousand in one page, artefacts not visible at this size


class _Artist:
    def __init__(self, setup: RendererSetup) -> None:
        self._limits = setup.limits
        self.stack = KeptStack(setup.limits)
        self._weights: Weights = read_weights(Path(setup.prepared.weights))
        self._engine: Engine = open_engine(setup.prepared)
        how = self._weights.spec.preprocessing
        self._engine.run(np.zeros((1, *how.input_shape), dtype=np.uint8))
        limit_memory(setup.memory_bytes)

    def answer(self, wanted: Wanted | WantedHeat) -> bytes:
        """Return a picture or why there is none, for the parent's `decode_answer` or `decode_raw_answer`."""
        try:
            if isinstance(wanted, WantedHeat):
                return encode_raw(self._heat(wanted))
            return encode_answer(self._draw(wanted))
        except PictureError as error:
            reason = error.reason
        except MemoryError:
            reason = "needs more memory than decode_memory allows"
        except Exception as error:  # noqa: BLE001 - whatever a file does, only its picture is missing
            reason = f"could not be drawn ({type(error).__name__})"
        return encode_answer(NoThumbnail(reason))

    def _draw(self, wanted: Wanted) -> Thumbnail:
        """Return the slice that was judged and, of the same model, its heatmap."""
        spec = self._weights.spec
        how = spec.preprocessing
        content = read_judged_source(wanted.file, self._limits)
        found = decode(content.data, self._limits, how.reading_size, colour=how.is_colour).slices
        chosen = next((one for one in found if one.index == wanted.slice_index), found[0])
        pixels = preprocess(chosen.image, spec.preprocessing)
        plain = Image.fromarray(pixels).resize((wanted.side, wanted.side), Image.Resampling.BICUBIC)
        if wanted.weights_sha256 != self._weights.sha256 or not spec.has_maps:
            return Thumbnail(_webp(plain), None)
        output = self._engine.run(pixels[None])
        (prediction,) = judge(output.logits, output.features, spec, self._weights.tensors)
        activation = output.maps[0, class_shown(prediction, spec)]
        return Thumbnail(_webp(plain), _webp(overlay(pixels, activation, wanted.side)))

    def _heat(self, wanted: WantedHeat) -> RawPicture:
        """Return a slice's map alone and where it lies, as `ThumbnailRenderer.heat` says."""
        spec = self._weights.spec
        if not spec.has_maps:
            raise PictureError(ReadFailure.PERMANENT, WITHOUT_MAPS)
        picture = self._slice(wanted)
        output = self._engine.run(preprocess(picture, spec.preprocessing)[None])
        (prediction,) = judge(output.logits, output.features, spec, self._weights.tensors)
        grid = strengths(output.maps[0, class_shown(prediction, spec)], _HEAT_SIDE)
        facts: dict[str, Fact] = {
            "width": _HEAT_SIDE,
            "height": _HEAT_SIDE,
            "bits": 8,
            "square": input_frame(picture, spec.preprocessing).square,
            "score": float(prediction.score(spec)),
        }
        return RawPicture(facts, grid.tobytes())

    def _slice(self, wanted: WantedHeat) -> Image.Image:
        how = self._weights.spec.preprocessing
        if not how.is_colour:
            return self.stack.of(wanted.file).tones(wanted.slice_index).picture
        # The numbers that a viewer shows of a slice have no colours.
        found = decode(
            read_judged_source(wanted.file, self._limits).data, self._limits, how.reading_size, colour=True
        )
        return next((one for one in found.slices if one.index == wanted.slice_index), found.slices[0]).image


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
            if not connection.poll(_IDLE_SECONDS):
                artist.stack.forget()
                return_free_memory()
            connection.send_bytes(artist.answer(connection.recv()))


def _webp(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=_QUALITY, method=2)
    return out.getvalue()


if __name__ == "__main__":
    main(sys.argv[1:])
