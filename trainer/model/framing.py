"""Make a picture of any shape the square input of a network that was not trained here; no head is sought.

Cutting out the middle is computed as torchvision's Resize and CenterCrop do on Pillow's images, to the pixel
(https://docs.pytorch.org/vision/stable/transforms.html).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from trainer.images.arrays import Grey
from trainer.model.foreign_network import SquareFraming

# A long narrow picture would become this large before its middle is cut out; then only the middle is resized.
_MOST_PIXELS = 16 << 20
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def framed(picture: Image.Image, framing: SquareFraming, size: int) -> Grey:
    """Return the input (size, size) uint8 of a picture of mode L, (size, size, 3) of one of mode RGB."""
    resample = _FILTERS[framing.interpolation]
    if framing.fit == "stretch":
        return np.asarray(picture.resize((size, size), resample))
    if framing.fit == "crop":
        return np.asarray(_middle(picture, framing.shorter_side or size, size, resample))
    scale = size / max(picture.size)
    inner = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    out = Image.new(picture.mode, (size, size))
    out.paste(picture.resize(inner, resample), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return np.asarray(out)


def framed_square(
    width: int, height: int, framing: SquareFraming, size: int
) -> tuple[float, float, float, float]:
    """Return what `framed` takes of a picture, in shares of its sides: left, upper, right, lower.

    Parts of it lie outside where a border is added.
    """
    if framing.fit == "stretch":
        return (0.0, 0.0, 1.0, 1.0)
    least, most = min(width, height), max(width, height)
    side = size * least / (framing.shorter_side or size) if framing.fit == "crop" else most
    across, down = side / width / 2, side / height / 2
    return (0.5 - across, 0.5 - down, 0.5 + across, 0.5 + down)


def _middle(picture: Image.Image, shorter: int, size: int, resample: Image.Resampling) -> Image.Image:
    """Return the square of `size` in the middle of the picture resized to a shorter side of `shorter`."""
    width, height = picture.size
    least = min(width, height)
    wide, tall = int(shorter * width / least), int(shorter * height / least)
    if wide * tall > _MOST_PIXELS:
        half = size * least / shorter / 2
        x, y = width / 2, height / 2
        return picture.resize((size, size), resample, box=(x - half, y - half, x + half, y + half))
    left, upper = round((wide - size) / 2.0), round((tall - size) / 2.0)
    return picture.resize((wide, tall), resample).crop((left, upper, left + size, upper + size))
