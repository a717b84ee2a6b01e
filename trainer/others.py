"""Pictures of other kinds, drawn here: what the distance to the training images is taught to notice.

Noise, gradients, shapes, pages of text, stripes, and the training pictures themselves cut into tiles
and shuffled: what remains then is their brightness and texture, so that these alone do not pass.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from trainer.preprocess import preprocess
from trainer.spec import Preprocessing

Pictures = npt.NDArray[np.uint8]


def other_pictures(pictures: Pictures, how: Preprocessing, count: int, seed: int) -> Pictures:
    """Return `count` network inputs (count, S, S) uint8 that show no head; `pictures` are training inputs."""
    chance = np.random.default_rng((seed, 7))
    makers = (_noise, _gradient, _shapes, _text, _stripes)
    made = []
    for number in range(count):
        if number % 3 == 0:
            made.append(_shuffled(pictures[int(chance.integers(len(pictures)))], chance))
        else:
            drawn = makers[number % len(makers)](chance)
            made.append(preprocess(drawn, how))
    return np.stack(made)


def _noise(chance: np.random.Generator) -> Image.Image:
    """Noise of any grain: white, or clouds."""
    grain = int(chance.choice([1, 2, 4, 8, 16, 32]))
    side = max(4, 256 // grain)
    values = chance.normal(chance.uniform(60, 190), chance.uniform(15, 80), (side, side)).clip(0, 255)
    small = Image.fromarray(values.astype(np.uint8))
    return small.resize((256, int(chance.integers(160, 320))), Image.Resampling.BICUBIC)


def _gradient(chance: np.random.Generator) -> Image.Image:
    """A ramp in any direction, plain or round."""
    rows, columns = np.mgrid[-1:1:256j, -1:1:256j]
    angle = chance.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * rows + np.sin(angle) * columns
    if chance.random() < 0.5:
        ramp = np.hypot(rows - chance.uniform(-0.5, 0.5), columns - chance.uniform(-0.5, 0.5))
    ramp = (ramp - ramp.min()) / np.ptp(ramp)
    return Image.fromarray((ramp ** chance.uniform(0.4, 2.5) * 255).astype(np.uint8))


def _shapes(chance: np.random.Generator) -> Image.Image:
    """Ellipses, boxes and lines of flat grey on a flat ground: diagrams, logos, screenshots."""
    image = Image.new("L", (256, int(chance.integers(160, 340))), int(chance.choice([0, 255, 40, 200])))
    pen = ImageDraw.Draw(image)
    for _ in range(int(chance.integers(1, 14))):
        left, top = (int(chance.integers(0, side)) for side in image.size)
        box = (left, top, left + int(chance.integers(4, 180)), top + int(chance.integers(4, 180)))
        grey = int(chance.integers(0, 256))
        kind = chance.integers(3)
        if kind == 0:
            pen.ellipse(box, fill=grey)
        elif kind == 1:
            pen.rectangle(box, fill=grey)
        else:
            pen.line(box, fill=grey, width=int(chance.integers(1, 8)))
    return image


def _text(chance: np.random.Generator) -> Image.Image:
    """A page of letters, dark on light or light on dark."""
    light = chance.random() < 0.75
    image = Image.new(
        "L", (int(chance.integers(180, 400)), int(chance.integers(180, 400))), 245 if light else 8
    )
    pen = ImageDraw.Draw(image)
    size = float(chance.uniform(7, 40))
    font = ImageFont.load_default(size=size)
    height = int(size * chance.uniform(1.1, 2.0))
    left = int(chance.integers(2, 40))
    for top in range(int(chance.integers(2, 40)), image.height, height):
        words = "".join(chr(int(code)) for code in chance.choice([32, *range(65, 91), *range(97, 123)], 60))
        pen.text((left, top), words[: int(chance.integers(4, 60))], fill=10 if light else 240, font=font)
    return image


def _stripes(chance: np.random.Generator) -> Image.Image:
    """Waves, checks and bars: test images and defects."""
    rows, columns = np.mgrid[0:256, 0:256]
    angle, length = chance.uniform(0, np.pi), chance.uniform(3, 90)
    wave = np.sin(2 * np.pi * (np.cos(angle) * rows + np.sin(angle) * columns) / length)
    if chance.random() < 0.5:
        wave = np.sign(wave * np.sin(2 * np.pi * columns / chance.uniform(6, 90)))
    return Image.fromarray(((wave + 1) * 127).astype(np.uint8))


def _shuffled(picture: npt.NDArray[np.uint8], chance: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Cut a picture into 3x3 to 8x8 tiles and put them back in any order."""
    tiles = int(chance.integers(3, 9))
    side = picture.shape[0] // tiles
    inner = picture[: side * tiles, : side * tiles].reshape(tiles, side, tiles, side).swapaxes(1, 2)
    mixed = inner.reshape(-1, side, side)[chance.permutation(tiles * tiles)]
    out = np.zeros_like(picture)
    out[: side * tiles, : side * tiles] = (
        mixed.reshape(tiles, tiles, side, side).swapaxes(1, 2).reshape(side * tiles, -1)
    )
    return out
