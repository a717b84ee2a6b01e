"""Convert any picture to RGB, 8 bits a channel: palettes, CMYK, Lab, alpha, 16 bits, and grey ones.

What is transparent becomes black, as in `trainer.images.grayscale` and as the frame around a picture. Numbers
are taken as sRGB: embedded colour profiles are not applied, as torchvision's and timm's loaders do not. More
than 8 bits of colour lose the lower ones; of grey they are stretched as in `trainer.images.grayscale`.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from PIL import Image

from trainer.images.grayscale import ALPHA_MODES, grey
from trainer.images.picture import Picture


def rgb(image: Image.Image) -> Image.Image:
    """Return a decoded picture of any of Pillow's modes as mode RGB of the same size."""
    if image.mode in ALPHA_MODES or ("transparency" in image.info and image.mode in ("1", "L", "P", "RGB")):
        seen = image.convert("RGBA")
        ground = Image.new("RGB", image.size)
        ground.paste(seen, mask=seen.getchannel("A"))
        return ground
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return grey(image).convert("RGB")
    if image.mode == "LAB":
        return _of_lab(image)
    return image.convert("RGB")


def in_colour(picture: Picture) -> Picture:
    """Return a picture of grey slices with the same slices in mode RGB."""
    slices = tuple(replace(one, image=one.image.convert("RGB")) for one in picture.slices)
    return replace(picture, slices=slices)


def _of_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    done = ImageCms.applyTransform(image, _lab_to_rgb())
    assert done is not None
    return done


@functools.cache
def _lab_to_rgb() -> Any:
    from PIL import ImageCms

    return ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )
