"""Decode DICOM to slices, grey or RGB.

Of a multi-frame object the frames that `trainer.images.volume` chooses are decoded, one at a time. Patient
data: see `dicom_dataset`; of it only the tags that a setting names, and what the object is a part of, leave
this module.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from config.text import printable
from trainer.images.arrays import Grey
from trainer.images.aspect import plausible, stretched
from trainer.images.formats.dicom_dataset import frame_count, read_dataset, read_frames
from trainer.images.formats.dicom_pixels import (
    frame_tones,
    functional_group,
    grey_frame,
    is_inverted,
    rescaled,
    rgb_frame,
)
from trainer.images.picture import Limits, Membership, Picture, Slice, Tones
from trainer.images.reduction import reduction
from trainer.images.volume import evenly_spaced, sample, with_head

if TYPE_CHECKING:
    from pydicom import Dataset

_LONGEST_TAG = 128  # characters kept of a tag's value


def decode_dicom(data: bytes, limits: Limits, image_size: int, *, colour: bool) -> Picture:
    """Return the picture of a DICOM object; raise PictureError or whatever pydicom raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        dataset = read_dataset(data, limits)
        frames = frame_count(dataset)
        width, height = int(dataset.Columns), int(dataset.Rows)
        wanted = evenly_spaced(range(frames), limits, width * height)
        shown = rgb_frame if colour else grey_frame
        slices, samples = [], []
        for number, pixels in zip(wanted, read_frames(dataset, wanted, limits), strict=True):
            picture = _square_pixels(shown(pixels, dataset, number), dataset, number)
            samples.append(
                sample(
                    np.asarray(picture.convert("L"))
                    if pixels.ndim == 3
                    else rescaled(pixels, dataset, number)
                )
            )
            factor = reduction(picture.width, picture.height, image_size)
            slices.append(Slice(number, picture.reduce(factor) if factor > 1 else picture))
        return Picture(
            "DICOM",
            width,
            height,
            tuple(slices[index] for index in with_head(samples)),
            frames,
            _tags(dataset, limits.tags),
            _membership(dataset),
        )


class DicomStack:
    """The frames of a DICOM object; raises what `decode_dicom` raises."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._limits = limits
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._dataset = read_dataset(data, limits)
            self.count = frame_count(self._dataset)

    def tones(self, number: int) -> Tones:
        """Return a frame."""
        pixels = next(iter(read_frames(self._dataset, [number], self._limits)))
        values, low, high = frame_tones(pixels, self._dataset, number)
        sides, is_length = _sides(self._dataset, number)
        return Tones(
            values,
            low,
            high,
            _square_pixels(grey_frame(pixels, self._dataset, number), self._dataset, number),
            is_inverted(self._dataset),
            plausible(sides[0] / sides[1]),
            sides if is_length else None,
        )


def _square_pixels(frame: Grey, dataset: Dataset, number: int) -> Image.Image:
    """Return a frame of 8 bits with its shorter side stretched if its pixels are not square."""
    (down, across), _ = _sides(dataset, number)
    return stretched(Image.fromarray(frame), down / across)


def _sides(dataset: Dataset, number: int) -> tuple[tuple[float, float], bool]:
    """Return a pixel's height and width, and whether they are mm; (1, 1) where nothing usable is said."""
    where = functional_group(dataset, number, "PixelMeasuresSequence")
    spacing = where.get("PixelSpacing")
    try:
        down, across = (float(part) for part in spacing or dataset.get("PixelAspectRatio"))
    except (TypeError, ValueError):
        return (1.0, 1.0), False
    if not (0 < down < math.inf and 0 < across < math.inf):
        return (1.0, 1.0), False
    return (down, across), bool(spacing)


def _membership(dataset: Dataset) -> Membership | None:
    """Return which series an object belongs to, None if it does not say."""
    series = _text(dataset, "SeriesInstanceUID")
    if not series:
        return None
    patient = _text(dataset, "PatientID")
    issuer = _text(dataset, "IssuerOfPatientID")
    return Membership(
        series,
        _text(dataset, "StudyInstanceUID"),
        f"{issuer}/{patient}" if patient else "",
        _position(dataset),
    )


def _position(dataset: Dataset) -> float | None:
    """Return where a slice lies along its normal in mm (PS3.3 C.7.6.2.1.1), else its number."""
    try:
        across = np.array([float(part) for part in dataset.ImageOrientationPatient])
        corner = np.array([float(part) for part in dataset.ImagePositionPatient])
        position = float(np.cross(across[:3], across[3:]) @ corner)
    except (AttributeError, TypeError, ValueError):
        position = float("nan")
    if np.isfinite(position):
        return position
    try:
        number = float(dataset.InstanceNumber)
    except (AttributeError, TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()[:_LONGEST_TAG]


def _tags(dataset: Dataset, keywords: Sequence[str]) -> dict[str, str]:
    found = {}
    for keyword in keywords:
        value = dataset.get(keyword)
        if value is None or value == "" or isinstance(value, bytes):
            continue
        parts = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
        found[keyword] = printable("\\".join(str(part).strip() for part in parts))[:_LONGEST_TAG]
    return found
