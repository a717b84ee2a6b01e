"""Colour pictures: read from every format and mode, placed whole, and refused by what is older."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from config.errors import WeightsError
from trainer.images.arrays import from_planes, planes
from trainer.images.decode import Limits, decode
from trainer.model.preprocess import preprocess
from trainer.model.probes import probes
from trainer.model.spec import COLOUR_FORMAT, IMAGENET_MEAN, ModelSpec, Preprocessing

RED, GREEN = (200, 30, 10), (10, 250, 60)
HOW = Preprocessing.of_colour(48)
COLOUR = ModelSpec("m", "1", "cnn", ("a", "b", "c"), preprocessing=HOW)


def _drawn() -> Image.Image:
    """Red, with a green stripe on its left."""
    image = Image.new("RGB", (90, 60), RED)
    image.paste(GREEN, (0, 0, 20, 60))
    return image


def _file(image: Image.Image, name: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def _off(image: Image.Image, place: tuple[int, int], colour: tuple[int, int, int]) -> int:
    """Return how far the farthest channel of a pixel is from a colour."""
    pixel = np.asarray(image)[place[1], place[0]].astype(int)
    return int(np.abs(pixel - colour).max())


def _read(data: bytes) -> Image.Image:
    image = decode(data, Limits(), 96, colour=True).slices[0].image
    assert image.mode == "RGB"
    return image


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"])
def test_every_format_keeps_its_colours(name: str) -> None:
    image = _read(_file(_drawn(), name))

    assert _off(image, (70, 30), RED) <= 4
    assert _off(image, (5, 30), GREEN) <= 6


_MODES = [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "PNG"), ("RGBA", "PNG")]


@pytest.mark.parametrize(("mode", "name"), _MODES)
def test_every_mode_keeps_its_colours(mode: str, name: str) -> None:
    image = _read(_file(_drawn().convert(mode, palette=Image.Palette.ADAPTIVE), name))

    assert _off(image, (70, 30), RED) <= 6


def test_lab_becomes_rgb() -> None:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(_drawn(), *profiles, outputMode="LAB")
    assert lab is not None

    assert _off(_read(_file(lab, "TIFF")), (70, 30), RED) <= 2


def test_what_is_transparent_is_black() -> None:
    image = _drawn().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    read = _read(_file(image, "PNG"))

    assert _off(read, (70, 0), (0, 0, 0)) <= 4
    assert _off(read, (70, 59), RED) <= 4


def test_exif_turns_a_photograph() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is at the right
    read = _read(_file(_drawn(), "JPEG", exif=exif))

    assert read.size == (60, 90)
    assert _off(read, (30, 5), GREEN) <= 6


def test_grey_files_are_grey_in_all_channels() -> None:
    sixteen = Image.fromarray((np.arange(5400).reshape(60, 90) * 12).astype(np.uint16))
    for data in (_file(_drawn().convert("L"), "PNG"), _file(sixteen, "PNG")):
        pixels = np.asarray(_read(data))
        assert np.ptp(pixels, axis=2).max() == 0
        assert np.ptp(pixels) > 40


def test_a_colour_picture_is_placed_whole_and_as_bright_as_it_is() -> None:
    pixels = preprocess(_drawn(), HOW)

    assert pixels.shape == (48, 48, 3)
    assert (pixels[0] == 0).all()  # above and below a wide picture
    assert tuple(pixels[24, 40]) == RED
    assert tuple(pixels[24, 2]) == GREEN


def test_planes_are_taken_back() -> None:
    for shape in ((2, 5, 5), (2, 5, 5, 3)):
        pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        np.testing.assert_array_equal(from_planes(planes(pictures)), pictures)
        assert planes(pictures).shape == (2, 3 if len(shape) == 4 else 1, 5, 5)


def test_a_probe_has_another_picture_in_each_channel() -> None:
    pictures = probes(32, 3)

    assert pictures.shape == (64, 32, 32, 3)
    np.testing.assert_array_equal(pictures[..., 0], probes(32))
    assert (pictures[..., 0] != pictures[..., 1]).any(axis=(1, 2)).all()
    assert (pictures[..., 1] != pictures[..., 2]).any(axis=(1, 2)).all()


def test_a_grey_model_is_described_as_ever() -> None:
    told = json.loads(replace(COLOUR, preprocessing=Preprocessing()).to_json())

    assert told["format"] == 3
    assert "channels" not in told["preprocessing"]


def test_a_colour_model_has_a_format_that_older_readers_refuse() -> None:
    told = json.loads(COLOUR.to_json())

    assert told["format"] == COLOUR_FORMAT == 4
    read = ModelSpec.from_json(COLOUR.to_json())
    assert read.preprocessing == HOW
    assert read.preprocessing.mean == IMAGENET_MEAN


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": 2}, "2 channels, not 1 or 3"),
        ({"crop_head": True}, "crops heads out of colour pictures"),
        ({"channels": 1}, "mean or std for each colour of grey"),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"std": [0.5, 0.5, 0.0]}, "spec.preprocessing.std is outside"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    told = json.loads(COLOUR.to_json())
    told["preprocessing"] |= change

    with pytest.raises(WeightsError, match=words):
        ModelSpec.from_json(json.dumps(told))
