"""Decodes JPEG frames of DICOM objects that Pillow does not: lossless, and more than 8 bits.

A plugin of pydicom, through imagecodecs (BSD-3-Clause), which decodes with libjpeg-turbo. pydicom's own ways
are pylibjpeg-libjpeg, which is under the GPL and does not return from some broken streams, and GDCM, which
pydicom does not let decode 12 bits.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

PLUGIN = "imagecodecs"
DECODER_DEPENDENCIES = dict.fromkeys((JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1), (PLUGIN,))
_END_OF_IMAGE = b"\xff\xd9"


def register() -> None:
    """Make pydicom know this plugin; a second time does nothing."""
    for uid in DECODER_DEPENDENCIES:
        decoder: Any = get_decoder(uid)
        if PLUGIN not in (*decoder.available_plugins, *decoder._unavailable):
            decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))


def is_available(uid: str) -> bool:
    """Whether frames of a transfer syntax can be decoded here; pydicom asks."""
    return uid in DECODER_DEPENDENCIES and find_spec(PLUGIN) is not None


def decode_frame(stream: bytes, runner: DecodeRunner) -> bytes:
    """Return the pixels of a frame, little-endian, colour by pixel; raise ValueError for a broken one."""
    from imagecodecs import jpeg8_decode

    # libjpeg fills up with grey what is missing, and only warns.
    if _END_OF_IMAGE not in stream[-16:]:
        raise ValueError("a JPEG stream that ends before its picture does")
    # As stored: what colours mean is said by the data set, and pydicom converts them.
    colours = None if runner.samples_per_pixel == 1 else "RGB"
    pixels = np.asarray(jpeg8_decode(stream, colorspace=colours, outcolorspace=colours))
    if pixels.shape[:2] != (runner.rows, runner.columns) or pixels.size != (
        runner.rows * runner.columns * runner.samples_per_pixel
    ):
        raise ValueError("a JPEG stream of another size than the data set says")
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
