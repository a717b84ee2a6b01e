"""DICOM objects in colour: RGB, YBR and palettes keep their colours, grey ones are grey in all channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import RLELossless

from tests.support.flowers import flower
from tests.trainer.images.formats.test_dicom import ANY, compressed, dicom, palette, saved
from trainer.images.decode import decode


def _flower() -> np.ndarray:
    return np.asarray(flower("mallow", 1, 64))


def _ybr() -> Dataset:
    pixels = np.asarray(convert_color_space(_flower(), "RGB", "YBR_FULL"), dtype=np.uint8)
    return dicom(pixels, PhotometricInterpretation="YBR_FULL")


OBJECTS: dict[str, Callable[[], Dataset | bytes]] = {
    "rgb": lambda: dicom(_flower()),
    "by plane": lambda: dicom(
        _flower(), PlanarConfiguration=1, PixelData=np.moveaxis(_flower(), -1, 0).tobytes()
    ),
    "16 bit": lambda: dicom(_flower().astype(np.uint16) * 257),
    "ybr": _ybr,
    "rle": lambda: compressed(dicom(_flower()), RLELossless, "pydicom"),
}


def _read(dataset: Dataset | bytes) -> np.ndarray:
    data = dataset if isinstance(dataset, bytes) else saved(dataset)
    image = decode(data, ANY, 64, colour=True).slices[0].image
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", OBJECTS)
def test_colours_are_kept(kind: str) -> None:
    assert np.abs(_read(OBJECTS[kind]()) - _flower()).max() <= 3


def test_a_palette_becomes_its_colours() -> None:
    inverted = _read(palette())  # of a head's negative, which its palette turns round

    assert np.ptp(inverted, axis=2).max() <= 1
    assert np.ptp(inverted) > 100


def test_a_grey_object_is_grey_in_all_channels() -> None:
    pixels = _read(dicom(np.asarray(Image.fromarray(_flower()).convert("L"))))

    assert np.ptp(pixels, axis=2).max() == 0
    assert np.ptp(pixels) > 50
