"""Convert any picture to grey, 8 bits a pixel: palettes, colour, alpha, 16 bits and floats.

Colour becomes luma (ITU-R BT.601, as in JPEG's Y). What is transparent becomes black. Colour
profiles are not applied: a slice's numbers are intensities of a scanner, not colours of a screen,
and `trainer.model.preprocess` stretches them anyway.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

from trainer.images.arrays import Array, Grey

# More than 8 bits are brought to 8 between these percentiles of the picture. They lie outside those
# that preprocessing takes of the head alone, so that the container's depth does not show, and inside
# the extremes, so that a few hot pixels do not cost the rest its resolution.
LOW_PERCENTILE = 0.05
HIGH_PERCENTILE = 99.95
_SAMPLED = 1 << 16  # about as many pixels are percentiles taken from: more tell nothing new
_EXAMINED = 1 << 20  # in larger pictures nobody looks for 8 bits in a larger container
_FEWEST = 32  # fewer values than these are stretched: they would be too dark to find a head in
_BLOCK = 1 << 22  # pixels that are turned into floats at a time

ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})


def grey(image: Image.Image) -> Image.Image:
    """Return a decoded picture of any of Pillow's modes as mode L of the same size."""
    if image.mode in ALPHA_MODES or ("transparency" in image.info and image.mode in ("1", "L", "P", "RGB")):
        return _on_black(image)
    if image.mode == "L":
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(to_8_bits(np.asarray(image)))
    if image.mode == "LAB":  # its first channel is lightness
        return image.getchannel(0)
    return image.convert("L")


def to_8_bits(values: Array, ignore: Array | None = None) -> Grey:
    """Return an array (height, width) of any numbers as uint8, stretched between two percentiles.

    Numbers that take no more than 256 evenly spaced values (8 bits in a larger container) are not
    stretched but taken as they are. Pixels where `ignore` is True (padding) do not count and become
    black; so does what is not finite.
    """
    exact = _eight_bits(values, ignore)
    if exact is not None:
        return exact
    low, high = _percentiles(values, ignore)
    eight = np.empty(values.shape, np.uint8)
    rows = max(1, _BLOCK // max(1, values.shape[1]))
    for top in range(0, len(values), rows):  # a part at a time: floats of a whole film scan are 1 GB
        part = np.asarray(values[top : top + rows], dtype=np.float32)
        part = np.where(np.isfinite(part), part, np.float32(low))
        eight[top : top + rows] = windowed(part, low, high)
    if ignore is not None:
        eight[ignore] = 0
    return eight


def window_of(values: Array, ignore: Array | None = None) -> tuple[float, float]:
    """Return which numbers `to_8_bits` makes black and white: (low, high)."""
    steps = _eight_bit_steps(values, ignore)
    if steps is not None:
        low, step = steps
        return float(low), float(low + 255 * step)
    return _percentiles(values, ignore)


def windowed(values: Array, low: float, high: float) -> Grey:
    """Return finite numbers as uint8 so that `low` and less is 0, `high` and more is 255."""
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    scaled = (np.asarray(values, dtype=np.float32) - np.float32(low)) * np.float32(255.0 / (high - low))
    eight: Grey = np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)
    return eight


def _eight_bits(values: Array, ignore: Array | None) -> Grey | None:
    """Return the 8-bit picture that was multiplied, shifted or widened to these numbers, None if none was."""
    found = _eight_bit_steps(values, ignore)
    if found is None:
        return None
    low, step = found
    eight: Grey = np.clip((values.astype(np.int64) - low) // step, 0, 255).astype(np.uint8)
    if ignore is not None:
        eight[ignore] = 0
    return eight


def _eight_bit_steps(values: Array, ignore: Array | None) -> tuple[int, int] | None:
    """Return (lowest, distance) of the numbers that 8 bits became, None if they were none."""
    if not 0 < values.size <= _EXAMINED or _steps(values.ravel()[:: 1 + values.size // 999], 1) is None:
        return None  # the first look, at a thousand pixels, says no to nearly all others
    return _steps(values if ignore is None else values[~ignore], _FEWEST)


def _steps(values: Array, fewest: int) -> tuple[int, int] | None:
    """Return (lowest, distance) of evenly spaced integers, at least `fewest` and at most 256; else None."""
    if values.dtype.kind not in "iu" and not _are_integers(values):
        return None
    whole = values.astype(np.int64).ravel()
    low = min(0, int(whole.min()))
    span = int(whole.max()) - low
    if span > 0xFFFF:
        return None
    levels = np.flatnonzero(np.bincount(whole - low))
    step = max(1, int(np.gcd.reduce(levels)))
    return (low, step) if fewest <= span // step + 1 <= 256 else None


def _are_integers(floats: Array) -> bool:
    return bool((np.abs(floats) < 1 << 24).all() and (floats == np.rint(floats)).all())


def _percentiles(values: Array, ignore: Array | None) -> tuple[float, float]:
    step = 1 + int((values.size / (2 * _SAMPLED)) ** 0.5)
    numbers = np.asarray(values[::step, ::step], dtype=np.float32)
    valid = np.isfinite(numbers)
    if ignore is not None:
        valid &= ~ignore[::step, ::step]
    numbers = numbers[valid]
    if numbers.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(numbers, (LOW_PERCENTILE, HIGH_PERCENTILE))
    if not high > low:  # nearly all pixels alike: a few bright ones are then the picture
        low, high = numbers.min(), numbers.max()
    return float(low), float(high)


def _on_black(image: Image.Image) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        image = image.convert("RGBA")
    return ImageChops.multiply(image.convert("L"), image.getchannel("A"))
