"""From a decoded picture to the network's input: the only implementation, for training and daemon.

Version 1: bring every source to about the same resolution, find the head, cut it out, place it in
a black square, and stretch its intensities between two percentiles. What differs between sources
but says nothing about a tumour (resolution, frame, position, brightness) is removed as far as it
can be. Scaling to 0..1 and mean/std happen inside the network, so that the input stays uint8.

Colour pictures are only made as large as the square allows and placed in it: where and how bright something
is may be what its class means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from trainer.images.arrays import Doubles, Grey
from trainer.images.reduction import reduction
from trainer.model.framing import framed, framed_square
from trainer.model.spec import Preprocessing

Box = tuple[float, float, float, float]  # left, upper, right, lower, pixels

# The head is looked for on a picture of at most this many pixels a side: enough for a bounding box
# to within one per cent, and it costs a tenth of a millisecond at any input size.
_SEARCH_SIDE = 96
# From the first to the second share of the picture's range a pixel's difference from the background
# counts more and more as head. A hard limit would let one grey level decide where the head ends.
_FAINT, _CLEAR = 0.08, 0.2
# So much of the head's mass may lie outside the box on each side: burnt-in text weighs less.
_OUTSIDE = 0.004
# A box smaller than this share of a side is not a head but a bright spot; then nothing is cut.
_SMALLEST_HEAD = 0.3


def preprocess(picture: Image.Image, preprocessing: Preprocessing) -> Grey:
    """Return the network's input, uint8: (image_size, image_size) for a grey picture of mode L.

    For one of mode RGB, which `preprocessing.channels` must ask for, (image_size, image_size, 3).
    """
    if preprocessing.framing is not None:
        return framed(picture, preprocessing.framing, preprocessing.image_size)
    factor = reduction(picture.width, picture.height, preprocessing.image_size)
    if factor > 1:
        picture = picture.reduce(factor)
    box = _box(picture, preprocessing)
    placed = _squared(picture, box, preprocessing.image_size)
    return _framed(placed, preprocessing) if preprocessing.is_colour else _stretched(placed, preprocessing)


@dataclass(frozen=True, slots=True)
class InputFrame:
    """The part of a picture that is the network's input, and its tones."""

    square: Box  # in shares of the picture's width and height; parts of it may lie outside
    black: int  # grey value that the input shows black
    white: int


def input_frame(picture: Image.Image, preprocessing: Preprocessing) -> InputFrame:
    """Return what `preprocess` takes of a picture, and how it stretches a grey one of mode L."""
    if preprocessing.framing is not None:
        square = framed_square(picture.width, picture.height, preprocessing.framing, preprocessing.image_size)
        return InputFrame(square, 0, 255)
    factor = reduction(picture.width, picture.height, preprocessing.image_size)
    if factor > 1:
        picture = picture.reduce(factor)
    box = _box(picture, preprocessing)
    head, (left, upper) = _squared(picture, box, preprocessing.image_size)
    side = max(box[2] - box[0], box[3] - box[1])
    pixel = side / preprocessing.image_size  # of the input, in pixels of the picture
    x, y = box[0] - left * pixel, box[1] - upper * pixel
    square = (x / picture.width, y / picture.height, (x + side) / picture.width, (y + side) / picture.height)
    if preprocessing.is_colour:
        return InputFrame(square, 0, 255)
    black, white = _percentiles(head.histogram(), preprocessing.low_percentile, preprocessing.high_percentile)
    return InputFrame(square, black, max(white, black + 1))


def preprocess_mask(mask: Image.Image, picture: Image.Image, preprocessing: Preprocessing, side: int) -> Grey:
    """Return a mask of a grey picture cut out and placed as the picture is, (side, side) uint8.

    `mask` has the picture's size and mode L, 0 or 255. What comes back is the share of each cell of the
    network's input that the mask covers, 255 for all of it. `side` divides the input's side.
    """
    factor = reduction(picture.width, picture.height, preprocessing.image_size)
    if factor > 1:
        picture, mask = picture.reduce(factor), mask.reduce(factor)
    box = _box(picture, preprocessing)
    head, (left, upper) = _squared(mask, box, preprocessing.image_size)
    out = Image.new("L", (preprocessing.image_size, preprocessing.image_size))
    out.paste(head, (left, upper))
    return np.asarray(out.resize((side, side), Image.Resampling.BOX))


def head_box(picture: Image.Image, margin: float) -> Box:
    """Return (left, upper, right, lower) in pixels of the head in a grey picture, margin included."""
    step = max(1, -(-max(picture.size) // _SEARCH_SIDE))
    small = np.asarray(picture.reduce(step) if step > 1 else picture)
    rim = np.concatenate((small[0], small[-1], small[:, 0], small[:, -1]))
    background = int(np.median(rim))
    difference = np.abs(small.astype(np.int16) - background)
    bright = np.partition(difference, -(difference.size // 100) - 1, axis=None)[-(difference.size // 100) - 1]
    # bright: the 99th percentile of the differences
    faint, clear = _FAINT * max(bright, 32), _CLEAR * max(bright, 32)
    mass = np.clip((difference - faint) / (clear - faint), 0, 1)
    left, right = (edge * step for edge in _extent(mass.sum(axis=0)))
    upper, lower = (edge * step for edge in _extent(mass.sum(axis=1)))
    if right - left < _SMALLEST_HEAD * picture.width or lower - upper < _SMALLEST_HEAD * picture.height:
        return (0.0, 0.0, float(picture.width), float(picture.height))
    pad = margin * max(right - left, lower - upper)
    return (
        max(0.0, left - pad),
        max(0.0, upper - pad),
        min(float(picture.width), right + pad),
        min(float(picture.height), lower + pad),
    )


def _box(picture: Image.Image, preprocessing: Preprocessing) -> Box:
    if preprocessing.crop_head:
        return head_box(picture, preprocessing.margin)
    return (0, 0, picture.width, picture.height)


def _extent(profile: Doubles) -> tuple[float, float]:
    """Return where a profile's mass begins and ends, in fractions of its bins."""
    cumulated = np.concatenate(([0.0], np.cumsum(profile)))
    if cumulated[-1] <= 0:
        return 0.0, 0.0
    places = np.arange(len(cumulated))
    first, last = np.interp(np.array([_OUTSIDE, 1 - _OUTSIDE]) * cumulated[-1], cumulated, places)
    return float(first), float(last)


def _squared(picture: Image.Image, box: Box, size: int) -> tuple[Image.Image, tuple[int, int]]:
    """Resize the box so that its longer side is `size`; return it with its place in the square."""
    width, height = box[2] - box[0], box[3] - box[1]
    scale = size / max(width, height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    head = picture.resize(inner, Image.Resampling.BILINEAR, box=box)
    return head, ((size - inner[0]) // 2, (size - inner[1]) // 2)


def _stretched(placed: tuple[Image.Image, tuple[int, int]], preprocessing: Preprocessing) -> Grey:
    """Map the head's percentiles to 0 and 255 and put it into the black square."""
    head, (left, upper) = placed
    low, high = _percentiles(head.histogram(), preprocessing.low_percentile, preprocessing.high_percentile)
    ramp = (np.arange(256, dtype=np.float32) - low) * (255.0 / max(1, high - low))
    table = np.clip(np.rint(ramp), 0, 255).astype(np.uint8)
    out = np.zeros((preprocessing.image_size, preprocessing.image_size), dtype=np.uint8)
    out[upper : upper + head.height, left : left + head.width] = table.take(np.asarray(head))
    return out


def _framed(placed: tuple[Image.Image, tuple[int, int]], preprocessing: Preprocessing) -> Grey:
    """Put a colour picture into the black square as it is."""
    picture, (left, upper) = placed
    out = np.zeros(preprocessing.input_shape, dtype=np.uint8)
    out[upper : upper + picture.height, left : left + picture.width] = np.asarray(picture)
    return out


def _percentiles(histogram: list[int], low: float, high: float) -> tuple[int, int]:
    """Return the grey values below which `low` and `high` per cent of the pixels lie."""
    cumulated = np.cumsum(histogram)
    total = int(cumulated[-1])
    first = int(np.searchsorted(cumulated, total * low / 100, side="right"))
    last = int(np.searchsorted(cumulated, total * high / 100, side="left"))
    return first, max(first, min(last, 255))
