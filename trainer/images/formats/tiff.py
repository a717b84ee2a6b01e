"""Decode TIFF: pages of one size are the slices of a volume, otherwise the first page counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageFile

from trainer.images.colour import rgb
from trainer.images.grayscale import grey, window_of
from trainer.images.picture import Limits, Picture, PictureError, ReadFailure, Slice, Tones
from trainer.images.reduction import reduction
from trainer.images.volume import evenly_spaced, sample, with_head

# Pages beyond these are not looked for: finding the last of a million would take minutes.
_MOST_PAGES = 4096

_OFFSETS, _COUNTS = (273, 324), (279, 325)  # where strips or tiles begin, how many bytes they have


def decode_tiff(image: Any, size: int, limits: Limits, image_size: int, *, colour: bool) -> Picture:
    """Return the picture of an opened TIFF file of `size` bytes; raise PictureError or what Pillow raises."""
    count = _page_count(image, size)
    if count > 1:
        wanted = evenly_spaced(range(count), limits, image.width * image.height)
        try:
            return _volume(image, wanted, count, image_size, colour=colour)
        except Exception:  # noqa: BLE001 - a broken later page; the first still is what viewers show
            image.seek(0)
    page = _page(image, image_size, colour=colour)
    return Picture("TIFF", image.width, image.height, (Slice(0, page),))


class TiffStack:
    """The pages of an opened TIFF file of `size` bytes; raises what `decode_tiff` raises."""

    def __init__(self, image: Any, size: int) -> None:
        self._image = image
        self.count = _page_count(image, size)

    def tones(self, number: int) -> Tones:
        """Return a page."""
        self._image.seek(number)
        self._image.load()
        return raster_tones(self._image)


def raster_tones(image: Image.Image) -> Tones:
    """Return a loaded picture's own numbers where they are single ones of more than 8 bits, else its grey."""
    picture = grey(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.array(image)
        return Tones(values, *window_of(values), picture)
    return Tones(np.array(picture), 0.0, 255.0, picture)


def _page_count(image: Any, size: int) -> int:
    """Return how many pages share the first one's size, 1 if any page has another (thumbnails, pyramids).

    A chain of pages that leads beyond the file is one that is still being copied, unless it leads
    so far that it can only be garbage.
    """
    first = image.size
    count = 1
    while count < _MOST_PAGES and image.tag_v2.next:
        following = image.tag_v2.next
        if size < following + 2 and following < 2 * size:
            raise PictureError(ReadFailure.INCOMPLETE, "a truncated TIFF file")
        try:
            image.seek(count)
        except Exception:  # noqa: BLE001 - the end of the chain (EOFError), or a broken one
            break
        if image.size != first:
            count = 1
            break
        if size < _end(image) < 2 * size:
            raise PictureError(ReadFailure.INCOMPLETE, "a truncated TIFF file")
        count += 1
    image.seek(0)
    return count


def _end(image: Any) -> int:
    """Return where the pixels of the current page end in the file, 0 if that is not said."""
    for offsets, counts in zip(_OFFSETS, _COUNTS, strict=True):
        begins, lengths = image.tag_v2.get(offsets), image.tag_v2.get(counts)
        if isinstance(begins, tuple) and isinstance(lengths, tuple):
            return max((begin + length for begin, length in zip(begins, lengths, strict=False)), default=0)
    return 0


def _volume(
    image: ImageFile.ImageFile, wanted: list[int], count: int, image_size: int, *, colour: bool
) -> Picture:
    pages: list[Slice] = []
    samples: list[Any] = []
    for number in wanted:
        image.seek(number)
        image.load()
        samples.append(sample(np.asarray(image if image.mode[0] in "IF" else grey(image))))
        pages.append(Slice(number, _page(image, image_size, colour=colour)))
    shown = tuple(pages[place] for place in with_head(samples))
    return Picture("TIFF", image.width, image.height, shown, count)


def _page(image: ImageFile.ImageFile, image_size: int, *, colour: bool) -> Image.Image:
    image.load()
    picture = rgb(image) if colour else grey(image)  # Pillow has turned it by its orientation already
    factor = reduction(picture.width, picture.height, image_size)
    if factor > 1:
        return picture.reduce(factor)
    return picture.copy() if picture is image else picture  # the next page will be read into `image`
