"""One slice at a time, with the numbers that are in the file: the same picture as `decode` makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian

from tests.support.dicom_objects import mr_slice
from tests.support.pictures import LIMITS, encoded, head
from trainer.images.decode import PictureError, decode, open_stack
from trainer.images.grayscale import windowed

WHOLE = 1 << 20  # a network so large that nothing is reduced


def _agrees(data: bytes, places: range | None = None) -> None:
    """Each slice is that of `decode`, and its window makes the same of its numbers."""
    decoded = decode(data, LIMITS, WHOLE)
    stack = open_stack(data, LIMITS)
    assert stack.count == decoded.slice_count
    for one in decoded.slices:
        tones = stack.tones(one.index)
        assert np.array_equal(np.asarray(tones.picture), np.asarray(one.image))
        if tones.ratio == 1:
            shown = windowed(np.nan_to_num(tones.values), tones.low, tones.high)
            shown = 255 - shown if tones.inverted else shown
            assert np.abs(shown.astype(int) - np.asarray(one.image)).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "JPEG"])
def test_eight_bits_are_as_they_are(kind: str) -> None:
    _agrees(encoded(Image.fromarray(head()), kind))


def test_sixteen_bits_keep_their_numbers() -> None:
    deep = head().astype(np.uint16) * 131 + np.arange(260, dtype=np.uint16)
    data = encoded(Image.fromarray(deep), "PNG")

    _agrees(data)
    assert np.array_equal(open_stack(data, LIMITS).tones(0).values, deep)


def test_pages_of_a_tiff_are_slices() -> None:
    pages = [Image.fromarray(np.roll(head(), 9 * number, 0)) for number in range(4)]

    _agrees(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))


def test_photograph_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    _agrees(encoded(Image.fromarray(head()), "PNG", exif=exif))


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_dicom_keeps_its_numbers_whichever_way_it_is_shown(tmp_path: Path, photometric: str) -> None:
    dataset = mr_slice(3)
    dataset.PhotometricInterpretation = photometric
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    data = (tmp_path / "x.dcm").read_bytes()

    _agrees(data)
    assert np.array_equal(open_stack(data, LIMITS).tones(0).values, dataset.pixel_array)


def test_slice_that_is_not_there_is_one_line() -> None:
    stack = open_stack(encoded(Image.fromarray(head()), "PNG"), LIMITS)

    for number in (1, -1):
        with pytest.raises(PictureError, match="no slice"):
            stack.tones(number)


def test_stacks_refuse_what_decode_refuses() -> None:
    whole = encoded(Image.fromarray(head()), "PNG")
    for data in (b"", b"\0" * 400, whole[:-300], whole[:50], b"BM" + b"x" * 300, b"\x1f\x8b" + b"x" * 100):
        with pytest.raises(PictureError) as expected:
            decode(data, LIMITS, WHOLE)
        with pytest.raises(PictureError) as found:
            open_stack(data, LIMITS).tones(0)
        assert found.value.kind == expected.value.kind
