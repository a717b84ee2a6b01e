"""Decode JPEG, PNG, TIFF, BMP, GIF and WebP: the plugin is picked by content, nothing is probed.

Of an animation the first frame is taken; of a TIFF's pages see `trainer.images.formats.tiff`. The pixel
ceiling is checked from the header; truncated means refused.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from trainer.images.colour import rgb
from trainer.images.formats.tiff import TiffStack, decode_tiff, raster_tones
from trainer.images.formats.truncation import has_hole_at_end
from trainer.images.grayscale import grey
from trainer.images.picture import Limits, Picture, PictureError, ReadFailure, Slice, Stack, Tones
from trainer.images.reduction import reduction
from trainer.images.silence import silence_loggers

silence_loggers("PIL")  # its debug lines quote the tags of a file


def _begins(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(beginnings)


# Each format that is taken, how its content is told, and what decodes it: nothing else is handed to Pillow.
_FORMATS: dict[str, tuple[Callable[[bytes], bool], Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    "JPEG": (_begins(b"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    "PNG": (_begins(b"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    "TIFF": (
        _begins(b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"MM\0+", b"II+\0"),
        TiffImagePlugin.TiffImageFile,
    ),
    "BMP": (_begins(b"BM"), BmpImagePlugin.BmpImageFile),
    "GIF": (_begins(b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
    "WEBP": (
        lambda data: data.startswith(b"RIFF") and data[8:12] == b"WEBP",
        WebPImagePlugin.WebPImageFile,
    ),
}

# EXIF's Orientation (CIPA DC-008, 4.6.4 A) -> what brings the stored picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_UPRIGHT[number] for number in (5, 6, 7, 8)}  # width and height change places
_ORIENTATION = 0x0112


def raster_format(data: bytes) -> str | None:
    """Return which of the raster formats a file's content announces, None if none of them."""
    return next((name for name, (announces, _) in _FORMATS.items() if announces(data)), None)


def decode_raster(format_name: str, data: bytes, limits: Limits, image_size: int, *, colour: bool) -> Picture:
    """Return the picture of a file in one of the raster formats, reduced by `reduction`'s factor.

    Raises PictureError for what is over a limit, and whatever Pillow raises for what is broken.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata; what matters is checked here
        image = _opened(format_name, data, limits)
        if format_name == "TIFF":
            return decode_tiff(image, len(data), limits, image_size, colour=colour)
        return _single(format_name, image, image_size, colour=colour)


def open_raster(format_name: str, data: bytes, limits: Limits) -> Stack:
    """Return the slices of a file in one of the raster formats; raise what `decode_raster` raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _opened(format_name, data, limits)
        return TiffStack(image, len(data)) if format_name == "TIFF" else _RasterStack(image)


class _RasterStack:
    """A picture that is alone in its file, upright."""

    count = 1

    def __init__(self, image: ImageFile.ImageFile) -> None:
        self._image = image

    def tones(self, number: int) -> Tones:
        """Return it."""
        assert number == 0  # as `open_stack` sees to
        image = self._image
        if image.format == "JPEG":
            image.draft("L", image.size)
        image.load()
        turn = _turn(image)
        return raster_tones(image if turn is None else image.transpose(turn))


def _opened(format_name: str, data: bytes, limits: Limits) -> ImageFile.ImageFile:
    """Open a file whose size is allowed, without decoding it."""
    if has_hole_at_end(format_name, data):
        raise PictureError(ReadFailure.INCOMPLETE, f"a {format_name} file whose end is not written yet")
    if format_name == "WEBP":  # its decoder takes memory for the whole picture when it opens the file
        limits.check_size(*_webp_size(data))
    image = _FORMATS[format_name][1](io.BytesIO(data))
    limits.check_size(*image.size)
    return image


def _single(format_name: str, image: ImageFile.ImageFile, image_size: int, *, colour: bool) -> Picture:
    width, height = image.size
    factor = reduction(width, height, image_size)
    if format_name == "JPEG":
        # Scaling by DCT is part of decoding; a side shorter than the factor is left to `reduce`.
        image.draft("RGB" if colour else "L", (max(1, width // factor), max(1, height // factor)))
    image.load()
    turn = _turn(image)
    picture = _reduced(rgb(image) if colour else grey(image), width, factor)
    if turn is not None:
        picture = picture.transpose(turn)
        if turn in _SIDEWAYS:
            width, height = height, width
    return Picture(format_name, width, height, (Slice(0, picture),))


def _reduced(picture: Image.Image, width: int, factor: int) -> Image.Image:
    """Reduce a picture by what the decoder has not reduced it already."""
    done = round(width / picture.width)
    return picture.reduce(factor // done) if done < factor else picture


def _turn(image: Image.Image) -> Image.Transpose | None:
    if "exif" not in image.info and "xmp" not in image.info and "XML:com.adobe.xmp" not in image.info:
        return None
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - metadata of any kind of brokenness; the picture is still good
        return None


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height from a WebP header (RFC 9649, sections 2.5 to 2.7)."""
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(data) >= 30:
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    raise PictureError(ReadFailure.PERMANENT, "a WebP file without a picture")
