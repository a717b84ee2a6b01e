"""Pictures of other kinds, drawn here: what the distance to the training images is taught to notice.

Noise, gradients, shapes, pages of text, stripes; scenes, which are to photographs what noise is to
textures; chests as X-rays show them; and the training pictures themselves, cut into tiles and shuffled
(what remains is their brightness and texture, which alone must not pass) or toned like a head in
computed tomography (a white skull round a flat grey brain). For a model of colour pictures the same
drawings in three colours each, some in grey, and heads instead of tomograms.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy.ndimage import maximum_filter, minimum_filter

from trainer.images.arrays import Doubles, Grey
from trainer.images.phantom import phantom
from trainer.model.preprocess import preprocess
from trainer.model.spec import Preprocessing


def other_pictures(pictures: Grey, preprocessing: Preprocessing, count: int, seed: int) -> Grey:
    """Return `count` network inputs (count, S, S[, 3]) uint8 of another kind than `pictures`.

    Those are training inputs. None of what is returned for grey models shows a head.
    """
    rng = np.random.default_rng((seed, 7))
    made = []
    for number in range(count):
        if number % 4:
            drawn = _MAKERS[number % len(_MAKERS)](rng)
            if preprocessing.is_colour:
                drawn = _coloured(drawn, rng)
            made.append(preprocess(drawn, preprocessing))
        elif number % 8 and preprocessing.is_colour:
            made.append(preprocess(_head(rng).convert("RGB"), preprocessing))
        else:
            spoil = _shuffled if number % 8 else _tomography
            spoil = _shuffled if preprocessing.is_colour else spoil
            made.append(spoil(pictures[int(rng.integers(len(pictures)))], rng))
    return np.stack(made)


_LEFT_GREY = 0.25  # share of the drawings for colour models


def _head(rng: np.random.Generator) -> Image.Image:
    """A slice of a head, which no model of colours is about."""
    return phantom(int(rng.integers(1 << 30)), lesion=bool(rng.random() < 0.5), label=False)


def _coloured(drawn: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Give a grey drawing three colours, from its black through the middle to its white, or leave it grey."""
    if rng.random() < _LEFT_GREY:
        return drawn.convert("RGB")
    dark, middle, light = (tuple(int(one) for one in rng.integers(0, 256, 3)) for _ in range(3))
    return ImageOps.colorize(drawn, dark, light, middle)


def _noise(rng: np.random.Generator) -> Image.Image:
    """Noise of any grain: white, or clouds."""
    grain = int(rng.choice([1, 2, 4, 8, 16, 32]))
    side = max(4, 256 // grain)
    values = rng.normal(rng.uniform(60, 190), rng.uniform(15, 80), (side, side)).clip(0, 255)
    small = Image.fromarray(values.astype(np.uint8))
    return small.resize((256, int(rng.integers(160, 320))), Image.Resampling.BICUBIC)


def _gradient(rng: np.random.Generator) -> Image.Image:
    """A ramp in any direction, plain or round."""
    rows, columns = np.ogrid[-1:1:256j, -1:1:256j]
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * rows + np.sin(angle) * columns
    if rng.random() < 0.5:
        ramp = np.hypot(rows - rng.uniform(-0.5, 0.5), columns - rng.uniform(-0.5, 0.5))
    ramp = (ramp - ramp.min()) / np.ptp(ramp)
    return Image.fromarray((ramp ** rng.uniform(0.4, 2.5) * 255).astype(np.uint8))


def _shapes(rng: np.random.Generator) -> Image.Image:
    """Ellipses, boxes and lines of flat grey on a flat ground: diagrams, logos, screenshots."""
    image = Image.new("L", (256, int(rng.integers(160, 340))), int(rng.choice([0, 255, 40, 200])))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 14))):
        left, top = (int(rng.integers(0, side)) for side in image.size)
        box = (left, top, left + int(rng.integers(4, 180)), top + int(rng.integers(4, 180)))
        grey = int(rng.integers(0, 256))
        kind = rng.integers(3)
        if kind == 0:
            pen.ellipse(box, fill=grey)
        elif kind == 1:
            pen.rectangle(box, fill=grey)
        else:
            pen.line(box, fill=grey, width=int(rng.integers(1, 8)))
    return image


def _text(rng: np.random.Generator) -> Image.Image:
    """A page of letters, dark on light or light on dark."""
    light = rng.random() < 0.75
    image = Image.new("L", (int(rng.integers(180, 400)), int(rng.integers(180, 400))), 245 if light else 8)
    pen = ImageDraw.Draw(image)
    size = float(rng.uniform(7, 40))
    font = ImageFont.load_default(size=size)
    height = int(size * rng.uniform(1.1, 2.0))
    left = int(rng.integers(2, 40))
    for top in range(int(rng.integers(2, 40)), image.height, height):
        words = "".join(chr(int(code)) for code in rng.choice([32, *range(65, 91), *range(97, 123)], 60))
        pen.text((left, top), words[: int(rng.integers(4, 60))], fill=10 if light else 240, font=font)
    return image


def _stripes(rng: np.random.Generator) -> Image.Image:
    """Waves, checks and bars: test images and defects."""
    rows, columns = np.ogrid[0:256, 0:256]
    angle, length = rng.uniform(0, np.pi), rng.uniform(3, 90)
    wave = np.sin(2 * np.pi * (np.cos(angle) * rows + np.sin(angle) * columns) / length)
    if rng.random() < 0.5:
        wave = np.sign(wave * np.sin(2 * np.pi * columns / rng.uniform(6, 90)))
    return Image.fromarray(((wave + 1) * 127).astype(np.uint8))


def _shuffled(picture: Grey, rng: np.random.Generator) -> Grey:
    """Cut a picture into 3x3 to 8x8 tiles and put them back in any order."""
    tiles = int(rng.integers(3, 9))
    side = picture.shape[0] // tiles
    colours = picture.shape[2:]
    whole = picture[: side * tiles, : side * tiles]
    inner = whole.reshape(tiles, side, tiles, side, *colours).swapaxes(1, 2)
    mixed = inner.reshape(-1, side, side, *colours)[rng.permutation(tiles * tiles)]
    out = np.zeros_like(picture)
    out[: side * tiles, : side * tiles] = (
        mixed.reshape(tiles, tiles, side, side, *colours).swapaxes(1, 2).reshape(whole.shape)
    )
    return out


def _scene(rng: np.random.Generator) -> Image.Image:
    """Leaves of all sizes over one another, shaded and grained, as photographs' statistics have them.

    The dead leaves model (Lee, Mumford and Huang 2001), which networks can learn to see from (Baradad et
    al. 2021, "Learning to See by Looking at Noise").
    """
    side = 256
    image = Image.new("L", (side, int(rng.integers(180, 320))), int(rng.integers(0, 256)))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(20, 250))):
        # Sizes spread as natural objects' do: as many between 4 and 8 pixels as between 40 and 80.
        reach = float(np.exp(rng.uniform(np.log(4), np.log(side / 2))))
        x, y = (float(rng.uniform(0, length)) for length in image.size)
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        corners = [(x + reach * np.cos(one), y + reach * np.sin(one)) for one in angles]
        pen.polygon(corners, fill=int(rng.integers(0, 256)))
    rows, columns = np.ogrid[-1 : 1 : image.height * 1j, -1 : 1 : side * 1j]
    light = 1 + rng.uniform(-0.4, 0.4) * rows + rng.uniform(-0.4, 0.4) * columns
    grain = _cloud(rng, image.size, int(rng.integers(8, 64))) * rng.uniform(0, 40)
    return Image.fromarray((np.asarray(image) * light + grain).clip(0, 255).astype(np.uint8))


def _chest(rng: np.random.Generator) -> Image.Image:
    """Two dark lungs beside a bright spine, crossed by ribs."""
    rows, columns = np.ogrid[-1:1:256j, -1:1:256j]
    picture = 170 - 60 * columns**2 + rng.uniform(20, 60) * np.exp(-((columns / 0.12) ** 2))
    for place in (-rng.uniform(0.35, 0.5), rng.uniform(0.35, 0.5)):
        width, height = rng.uniform(0.22, 0.36), rng.uniform(0.5, 0.8)
        depth = np.hypot((columns - place) / width, (rows - rng.uniform(-0.15, 0.15)) / height)
        picture = picture - rng.uniform(70, 140) / (1 + np.exp((depth - 1) * rng.uniform(6, 14)))
    ribs = np.sin(2 * np.pi * rng.uniform(3, 6) * (rows - rng.uniform(0.2, 0.7) * np.abs(columns)))
    heart = np.hypot((columns - rng.uniform(0, 0.2)) / 0.3, (rows - 0.35) / 0.35)
    picture += rng.uniform(5, 22) * ribs + rng.uniform(20, 70) / (1 + np.exp((heart - 1) * 10))
    picture += _cloud(rng, (256, 256), int(rng.integers(8, 64))) * rng.uniform(2, 12)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def _cloud(rng: np.random.Generator, size: tuple[int, int], knots: int) -> Doubles:
    """Smooth noise (height, width) of about unit size."""
    coarse = rng.normal(128, 50, (knots, knots)).clip(0, 255).astype(np.uint8)
    smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    return (np.asarray(smooth, dtype=np.float64) - 128) / 50


def _tomography(picture: Grey, rng: np.random.Generator) -> Grey:
    """Tone a head as X-rays would: what is near the air white and flat, what is inside flat grey."""
    side = picture.shape[0]
    reach = 2 * int(side * rng.uniform(0.03, 0.06)) + 1
    closed = minimum_filter(maximum_filter(picture > 20, 9, mode="nearest"), 9, mode="nearest")
    inner = minimum_filter(closed, reach, mode="nearest")
    grey, contrast = rng.uniform(60, 130), rng.uniform(0.05, 0.25)
    middle = float(picture[inner].mean()) if inner.any() else 128.0
    inside = grey + contrast * (picture.astype(np.float64) - middle)
    bone = np.where(closed, rng.uniform(220, 255), 0.0)
    grain = rng.normal(0, rng.uniform(1, 8), picture.shape)
    return np.asarray((np.where(inner, inside, bone) + grain * inner).clip(0, 255), dtype=np.uint8)


_MAKERS = (_noise, _gradient, _shapes, _text, _stripes, _scene, _scene, _chest)
