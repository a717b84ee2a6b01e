"""The process that reads slices for a viewer: decode, reduce, bring to 8 or 16 bits, or 24 of colours.

    python -m daemon.web.viewer.slice_reader_main DESCRIPTOR

Started by `daemon.web.viewer.slice_reader`, which replaces it when a file makes it hang, grow or die.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

import numpy as np
from PIL import Image, ImageChops

from daemon.heatmaps.kept_stack import KeptStack
from daemon.heatmaps.picture_process import READY
from daemon.heatmaps.raw_picture import MOST_SIDE, Fact, RawPicture, encode_raw
from daemon.heatmaps.thumbnails import NoThumbnail, encode_answer
from daemon.process import end_with_the_connection, limit_memory, return_free_memory
from daemon.store.source_reader import read_judged_source
from daemon.web.viewer.slice_reader import ReaderSetup, WantedSlice
from trainer.images.arrays import Array
from trainer.images.decode import Limits, PictureError, Tones, decode
from trainer.images.silence import silence_c_libraries
from trainer.model.preprocess import input_frame

_IDLE_SECONDS = 10.0  # after which a volume that was looked at is let go
_MOST_16 = (1 << 16) - 1
_WHOLE = 1 << 30  # an input size for which no picture is made smaller


def main(arguments: Sequence[str]) -> None:
    """Serve until the parent closes its end."""
    connection = Connection(int(arguments[0]))
    end_with_the_connection(connection.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    setup: ReaderSetup = connection.recv()
    silence_c_libraries()
    limit_memory(setup.memory_bytes)
    kept = KeptStack(setup.limits)
    with contextlib.suppress(EOFError, OSError):
        connection.send_bytes(READY)
        while True:
            if not connection.poll(_IDLE_SECONDS):
                kept.forget()
                return_free_memory()
            connection.send_bytes(answer(connection.recv(), kept, setup.limits))


def answer(wanted: WantedSlice, kept: KeptStack, limits: Limits) -> bytes:
    """Return a slice or why there is none, for the parent's `decode_raw_answer`."""
    try:
        stack = kept.of(wanted.file)
        place: dict[str, Fact] = {"slice": wanted.slice_index, "slices": stack.count}
        coloured = _coloured(wanted, limits)
        if coloured is not None:
            return encode_raw(RawPicture(coloured.facts | place, coloured.pixels))
        tones = stack.tones(wanted.slice_index)
        return encode_raw(raw_slice(tones, place | _seen(tones, wanted)))
    except PictureError as error:
        reason = error.reason
    except MemoryError:
        reason = "needs more memory than decode_memory allows"
    except Exception as error:  # noqa: BLE001 - whatever a file does, only its picture is missing
        reason = f"could not be drawn ({type(error).__name__})"
    return encode_answer(NoThumbnail(reason))


def raw_slice(tones: Tones, more: dict[str, Fact]) -> RawPicture:
    """Return tones as pixels of 8 or 16 bits, at most MOST_SIDE a side, with their facts and `more`."""
    values, factor = reduced(tones.values)
    pixels, slope, intercept = to_pixels(values)
    facts: dict[str, Fact] = {
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "bits": 8 * pixels.dtype.itemsize,
        "slope": slope,
        "intercept": intercept,
        "low": float(tones.low),
        "high": float(tones.high),
        "inverted": tones.inverted,
        "ratio": float(tones.ratio),
        "spacing": tones.spacing,
        "reduced": factor,
        "square": None,
    }
    little = pixels.astype(pixels.dtype.newbyteorder("<"))
    return RawPicture(facts | more, little.tobytes())


def _coloured(wanted: WantedSlice, limits: Limits) -> RawPicture | None:
    """Return a slice in colour, None if it has none or the model sees none."""
    how = wanted.preprocessing
    if how is None or not how.is_colour:
        return None
    found = decode(read_judged_source(wanted.file, limits).data, limits, _WHOLE, colour=True).slices
    image = next((one.image for one in found if one.index == wanted.slice_index), None)
    if image is None or all(low == high == 0 for low, high in _differences(image)):
        return None
    factor = -(-max(image.size) // MOST_SIDE)
    small = image.reduce(factor) if factor > 1 else image
    facts: dict[str, Fact] = {
        "width": small.width,
        "height": small.height,
        "bits": 24,
        "slope": 1.0,
        "intercept": 0.0,
        "low": 0.0,
        "high": 255.0,
        "inverted": False,
        "ratio": 1.0,
        "spacing": None,
        "reduced": factor,
        "square": input_frame(image, how).square,
    }
    return RawPicture(facts, small.tobytes())


def _differences(image: Image.Image) -> Iterator[tuple[int, int]]:
    """Yield the least and the largest difference between red and each of the other channels."""
    red, *others = image.split()
    for other in others:
        least, most = ImageChops.difference(red, other).getextrema()
        yield int(least), int(most)  # type: ignore[arg-type]  # of a picture of one channel: two numbers


def reduced(values: Array) -> tuple[Array, int]:
    """Return numbers (height, width) averaged to at most MOST_SIDE a side, and by which factor."""
    factor = -(-max(values.shape) // MOST_SIDE)
    if factor == 1:
        return values, 1
    kind = values.dtype
    small = np.asarray(Image.fromarray(np.nan_to_num(values.astype(np.float32, copy=False))).reduce(factor))
    return (np.rint(small).astype(kind) if kind.kind in "iu" else small), factor


def to_pixels(values: Array) -> tuple[Array, float, float]:
    """Return numbers as uint8 or uint16 with slope and intercept; whole ones exactly where they fit."""
    whole = values.dtype.kind in "iu" and values.dtype.itemsize <= 4
    numbers = values.astype(np.int64) if whole else np.asarray(values, dtype=np.float64)
    if not whole:
        finite = np.isfinite(numbers)
        least = float(numbers[finite].min()) if finite.any() else 0.0
        numbers = np.where(finite, numbers, least)
        whole = bool((np.abs(numbers) < 1 << 31).all() and (numbers == np.rint(numbers)).all())
    low, high = float(numbers.min()), float(numbers.max())
    if whole and low >= 0 and high <= 255:
        return numbers.astype(np.uint8), 1.0, 0.0
    if whole and high - min(low, 0.0) <= _MOST_16:
        low = min(low, 0.0)
        return (numbers - low).astype(np.uint16), 1.0, low
    slope = (high - low) / _MOST_16 or 1.0
    return np.rint((numbers - low) / slope).astype(np.uint16), slope, low


def _seen(tones: Tones, wanted: WantedSlice) -> dict[str, Fact]:
    """Return the window and the frame of a slice as the network sees it, {} where no model is known."""
    if wanted.preprocessing is None:
        return {}
    frame = input_frame(tones.picture, wanted.preprocessing)
    ends = (255 - frame.white, 255 - frame.black) if tones.inverted else (frame.black, frame.white)
    low, high = (float(tones.low + (tones.high - tones.low) * end / 255) for end in ends)
    return {"square": frame.square, "low": low, "high": high}


if __name__ == "__main__":
    main(sys.argv[1:])
