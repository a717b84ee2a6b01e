"""How a TIFF is decoded: pages of one size are the slices of a volume, otherwise the first page counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageFile

from trainer.decoded import Limits, Picture, PictureError, Slice
from trainer.grey import grey
from trainer.preprocess import reduction
from trainer.volume import evenly_spaced, sample, with_head

# Pages beyond these are not looked for: finding the last of a million would take minutes.
_MOST_PAGES = 4096


def decode_tiff(image: ImageFile.ImageFile, limits: Limits, image_size: int) -> Picture:
    """Return the picture of an opened TIFF; raise PictureError or whatever Pillow raises."""
    count = _page_count(image)
    if count > 1:
        wanted = evenly_spaced(range(count), limits, image.width * image.height)
        try:
            return _volume(image, wanted, count, image_size)
        except PictureError:
            raise
        except Exception:  # noqa: BLE001 - a broken later page; the first still is what viewers show
            count = 1
    image.seek(0)
    limits.check_size(*image.size)
    page = _page(image, image_size)
    return Picture("TIFF", *image.size, (Slice(0, page),), count)


def _page_count(image: ImageFile.ImageFile) -> int:
    """Return how many pages share the first one's size, 1 if any page has another (thumbnails, pyramids)."""
    first = image.size
    count = 1
    while count < _MOST_PAGES:
        try:
            image.seek(count)
        except EOFError:
            break
        except Exception:  # noqa: BLE001 - a broken chain of pages
            count = 1
            break
        if image.size != first:
            count = 1
            break
        count += 1
    image.seek(0)
    return count


def _volume(image: ImageFile.ImageFile, wanted: list[int], count: int, image_size: int) -> Picture:
    pages: list[Slice] = []
    samples: list[Any] = []
    for number in wanted:
        image.seek(number)
        image.load()
        samples.append(sample(np.asarray(image if image.mode in ("I", "F") else grey(image))))
        pages.append(Slice(number, _page(image, image_size)))
    return Picture("TIFF", *image.size, tuple(pages[place] for place in with_head(samples)), count)


def _page(image: ImageFile.ImageFile, image_size: int) -> Image.Image:
    image.load()
    picture = grey(image)  # Pillow has turned it by its orientation already
    factor = reduction(picture.width, picture.height, image_size)
    return picture.reduce(factor) if factor > 1 else picture
