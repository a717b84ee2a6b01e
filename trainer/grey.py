"""How any picture becomes grey, 8 bits a pixel: palettes, colour, alpha, 16 bits and floats.

Colour becomes luma (ITU-R BT.601, as in JPEG's Y). What is transparent becomes black. Colour
profiles are not applied: a slice's numbers are intensities of a scanner, not colours of a screen,
and `trainer.preprocess` stretches them anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from trainer.decoded import refuse

Array = npt.NDArray[Any]

# More than 8 bits are brought to 8 between these percentiles of the picture. They lie outside those
# that preprocessing takes of the head alone, so that the container's depth does not show, and inside
# the extremes, so that a few hot pixels do not cost the rest its resolution.
LOW_PERCENTILE = 0.05
HIGH_PERCENTILE = 99.95
_SAMPLED = 1 << 20  # pixels that percentiles are taken from: more tell nothing new

_ALPHA = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})


def grey(image: Image.Image) -> Image.Image:
    """Return a decoded picture of any of Pillow's modes as mode L of the same size."""
    if image.mode in _ALPHA or ("transparency" in image.info and image.mode in ("1", "L", "P", "RGB")):
        return _on_black(image)
    if image.mode == "L":
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(to_8_bits(np.asarray(image)))
    if image.mode == "LAB":  # its first channel is lightness
        return image.getchannel(0)
    return image.convert("L")


def to_8_bits(values: Array, ignore: Array | None = None) -> npt.NDArray[np.uint8]:
    """Return an array (height, width) of any numbers as uint8, stretched between two percentiles.

    Pixels where `ignore` is True (padding) do not count and become black; so does what is not finite.
    """
    floats = np.asarray(values, dtype=np.float32)
    valid = np.isfinite(floats)
    if ignore is not None:
        valid &= ~ignore
    low, high = _percentiles(floats, valid)
    return windowed(np.where(valid, floats, low), low, high)


def windowed(values: Array, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Return finite numbers as uint8 so that `low` and less is 0, `high` and more is 255."""
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    scaled = (np.asarray(values, dtype=np.float32) - np.float32(low)) * np.float32(255.0 / (high - low))
    eight: npt.NDArray[np.uint8] = np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)
    return eight


def _percentiles(floats: Array, valid: Array) -> tuple[float, float]:
    step = max(1, int((floats.size / _SAMPLED) ** 0.5))
    numbers = floats[::step, ::step][valid[::step, ::step]]
    if numbers.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(numbers, (LOW_PERCENTILE, HIGH_PERCENTILE))
    if not high > low:  # nearly all pixels alike: a few bright ones are then the picture
        low, high = numbers.min(), numbers.max()
    return float(low), float(high)


def _on_black(image: Image.Image) -> Image.Image:
    if image.mode != "LA":
        image = image.convert("RGBA")
    if "A" not in image.getbands():
        refuse("a picture with transparency that cannot be told from its colours")
    return ImageChops.multiply(image.convert("L"), image.getchannel("A"))
