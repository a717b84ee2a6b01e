"""A class-activation map in warm colours over a picture: the one way the page, files and reports show it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from trainer.images.arrays import Floats, Grey

_STRONGEST = 0.6  # opacity of the map at its largest value
_FADED = 0.85  # of the colours of a picture under a map
# By strength 0..255: how much green is in the colour, and how much it covers.
_YELLOW_TO_RED = [round(250 - 220 * place / 255) for place in range(256)]
_OPACITY = [round(_STRONGEST * place) for place in range(256)]


def overlay(picture: Grey, activation: Floats, side: int) -> Image.Image:
    """Return a network's input (S, S[, 3]) as RGB, `side` pixels a side, with a map (h, w) over it.

    The colours of a colour picture are faded, or warm ones of its own would look like the map. Only what
    speaks for the class is shown; its colours are relative to the largest value of this image.
    """
    # Pillow's own operations: in numpy this cost five times as much, and watch --heatmaps pays it per image.
    plain = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")
    if picture.ndim == 3:
        plain = Image.blend(plain, plain.convert("L").convert("RGB"), _FADED)
    shares = strengths(activation, side)
    flat = Image.new("L", (side, side), 255), Image.new("L", (side, side), 0)
    warm = Image.merge("RGB", (flat[0], shares.point(_YELLOW_TO_RED), flat[1]))
    return Image.composite(warm, plain, shares.point(_OPACITY))


def strengths(activation: Floats, side: int) -> Image.Image:
    """Return what spoke for a class, `side` pixels a side, mode L: 255 where it spoke most in this image."""
    positive = np.maximum(activation, 0)
    strength = np.rint(positive * (255 / max(1e-6, float(positive.max())))).astype(np.uint8)
    return Image.fromarray(strength).resize((side, side), Image.Resampling.BICUBIC)
