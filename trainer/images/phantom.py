"""Synthetic head slices, drawn and clearly labelled, for the demo and for tests without real images.

They look like a T1 slice to a person at a glance and to the reader in every respect that matters
(black surround, skull, grey and white matter, ventricles); they are nobody's.
"""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw, ImageFilter

LABEL = "SYNTHETIC SAMPLE"


def phantom(seed: int, *, lesion: bool, size: int = 256, label: bool = True) -> Image.Image:
    """Return a grey (mode L) square picture of a made-up head slice, with a bright lesion if asked for."""
    rng = random.Random(seed)  # noqa: S311 - a drawing, not a secret
    scale = 2  # drawn at twice the size and reduced: smooth edges
    side = size * scale
    head = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(head)
    middle = side / 2
    wide, tall = side * rng.uniform(0.33, 0.38), side * rng.uniform(0.42, 0.46)
    pen.ellipse(_box(middle, middle, wide, tall), fill=150)  # scalp
    pen.ellipse(_box(middle, middle, wide * 0.93, tall * 0.94), fill=25)  # skull
    pen.ellipse(_box(middle, middle, wide * 0.87, tall * 0.89), fill=95)  # cortex
    _folds(pen, rng, middle, wide * 0.8, tall * 0.82)
    pen.ellipse(_box(middle, middle, wide * 0.62, tall * 0.66), fill=130)  # white matter
    for sign in (-1, 1):  # lateral ventricles
        pen.ellipse(
            _box(middle + sign * wide * 0.17, middle - tall * 0.05, wide * 0.09, tall * 0.26), fill=35
        )
    pen.line([(middle, middle - tall * 0.88), (middle, middle + tall * 0.88)], fill=45, width=scale)
    if lesion:
        _lesion(pen, rng, middle, wide, tall)
    head = head.filter(ImageFilter.GaussianBlur(scale * 1.2)).resize((size, size), Image.Resampling.BOX)
    head = _with_noise(head, rng)
    if label:
        ImageDraw.Draw(head).text((4, size - 14), LABEL, fill=140)
    return head


def _box(x: float, y: float, wide: float, tall: float) -> tuple[float, float, float, float]:
    return (x - wide, y - tall, x + wide, y + tall)


def _folds(pen: ImageDraw.ImageDraw, rng: random.Random, middle: float, wide: float, tall: float) -> None:
    """Dark furrows around the rim, where the cortex folds."""
    for number in range(34):
        angle = math.tau * number / 34 + rng.uniform(-0.06, 0.06)
        x, y = middle + wide * math.cos(angle), middle + tall * math.sin(angle)
        inner = rng.uniform(0.78, 0.88)
        end = (middle + wide * inner * math.cos(angle), middle + tall * inner * math.sin(angle))
        pen.line([(x, y), end], fill=55, width=5)


def _lesion(pen: ImageDraw.ImageDraw, rng: random.Random, middle: float, wide: float, tall: float) -> None:
    """A bright ring with a dark core and a paler surround, off the midline."""
    sign = rng.choice((-1, 1))
    x = middle + sign * wide * rng.uniform(0.38, 0.5)
    y = middle + tall * rng.uniform(-0.35, 0.35)
    radius = wide * rng.uniform(0.2, 0.28)
    pen.ellipse(_box(x, y, radius * 1.5, radius * 1.4), fill=165)
    pen.ellipse(_box(x, y, radius, radius * 0.9), fill=250)
    pen.ellipse(_box(x, y, radius * 0.45, radius * 0.4), fill=90)


def _with_noise(picture: Image.Image, rng: random.Random) -> Image.Image:
    grain = Image.frombytes("L", picture.size, rng.randbytes(picture.width * picture.height))
    grain = grain.filter(ImageFilter.GaussianBlur(0.8))
    head = picture.point([0 if value < 12 else 255 for value in range(256)])
    noisy = Image.blend(picture, grain, 0.12)
    return Image.composite(noisy, picture, head)
