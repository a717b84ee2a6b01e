"""Reduction: by which power of two a picture is made smaller before anything else."""

from __future__ import annotations


def reduction(width: int, height: int, image_size: int) -> int:
    """Return the power of two by which a picture is reduced before anything else, 1 to 8.

    The longer side stays at least `image_size` pixels. JPEG files are decoded at that scale at
    once (DCT scaling), all others are reduced by averaging: the result is nearly the same, so the
    container does not matter.
    """
    factor = 1
    while factor < 8 and max(width, height) // (factor * 2) >= image_size:
        factor *= 2
    return factor
