"""Drawn flowers in colour: five classes that only colour tells apart, whatever their grey."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# Petals' colours of about the same luma (ITU-R BT.601), 120 to 130 of 255: in grey the classes look alike.
PETALS = {
    "bluebell": (70, 115, 255),
    "clover": (40, 190, 45),
    "marigold": (225, 95, 10),
    "mallow": (215, 60, 215),
    "thrift": (130, 122, 118),
}


def flower(label: str, seed: int, size: int = 96) -> Image.Image:
    """Return an RGB picture of a flower of a class, of any place, size, number of petals and light."""
    rng = np.random.default_rng((sum(label.encode()), seed))
    large = size * 3
    ground = tuple(int(one) for one in rng.integers(30, 110, 3))
    image = Image.new("RGB", (large, large), ground)
    pen = ImageDraw.Draw(image)
    for _ in range(14):  # leaves behind
        x, y = rng.uniform(0, large, 2)
        reach = rng.uniform(0.05, 0.2) * large
        fill = tuple(int(one) for one in rng.integers(20, 130, 3))
        pen.ellipse((x - reach, y - reach / 3, x + reach, y + reach / 3), fill=fill)
    count, turn = int(rng.integers(5, 12)), rng.uniform(0, math.tau)
    x, y = rng.uniform(0.38, 0.62, 2) * large
    radius = rng.uniform(0.2, 0.32) * large
    light = rng.uniform(0.75, 1.15)
    for number in range(count):
        angle = turn + math.tau * number / count
        middle = (x + 0.6 * radius * math.cos(angle), y + 0.6 * radius * math.sin(angle))
        shade = light * rng.uniform(0.9, 1.1)
        fill = tuple(min(255, int(one * shade)) for one in PETALS[label])
        reach = radius * 0.45
        pen.ellipse((*(one - reach for one in middle), *(one + reach for one in middle)), fill=fill)
    eye = radius * 0.25
    pen.ellipse((x - eye, y - eye, x + eye, y + eye), fill=(90, 80, 20))
    small = image.filter(ImageFilter.GaussianBlur(2)).resize((size, size), Image.Resampling.BOX)
    noise = rng.normal(0, 5, (size, size, 3))
    return Image.fromarray((np.asarray(small) + noise).clip(0, 255).astype(np.uint8))


def draw_flowers(root: Path, count: int, *, first: int = 0) -> Path:
    """Fill `root` with class folders of `count` drawn flowers each."""
    for label in PETALS:
        (root / label).mkdir(parents=True)
        for number in range(first, first + count):
            flower(label, number).save(root / label / f"{label} {number}.jpg", quality=92)
    return root
