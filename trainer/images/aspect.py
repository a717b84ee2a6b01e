"""Resample oblong pixels to square ones, so that a head keeps its shape."""

from __future__ import annotations

from PIL import Image

# A ratio beyond this is a slip of the file's writer, not the shape of a pixel.
_WIDEST = 8.0
_NEARLY_SQUARE = 0.02


def plausible(ratio: float) -> float:
    """Return a ratio of pixel sides as pictures are stretched by it: 1 where it is a slip or nearly 1."""
    return ratio if 1 / _WIDEST <= ratio <= _WIDEST and abs(ratio - 1) >= _NEARLY_SQUARE else 1.0


def stretched(picture: Image.Image, ratio: float) -> Image.Image:
    """Return a picture whose pixels are `ratio` times as high as they are wide with square ones.

    The side with the coarser pixels grows, so that nothing is lost.
    """
    ratio = plausible(ratio)
    if ratio == 1:
        return picture
    width = picture.width if ratio >= 1 else round(picture.width / ratio)
    height = round(picture.height * ratio) if ratio >= 1 else picture.height
    return picture.resize((width, height), Image.Resampling.BILINEAR)
