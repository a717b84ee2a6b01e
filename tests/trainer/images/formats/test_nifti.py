"""A NIfTI volume is cut into the slices a radiologist would look at, whatever its axes and numbers are."""

from __future__ import annotations

import gzip
import itertools
import struct
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform

from tests.support.pictures import HOW, LIMITS, difference, head, network_input, picture_or_error, read
from trainer.images.decode import Limits, PictureError, ReadFailure
from trainer.model.preprocess import preprocess

MM = (1.0, 1.0, 5.0)


def volume(slices: int = 6) -> np.ndarray:
    """Return (right-to-left, front-to-back, foot-to-head) intensities, empty at both ends."""
    page = head(96, 80).T.astype(np.int16)
    weights = [0, *range(2, slices), 0]
    return np.stack([page * weight for weight in weights], axis=-1)


def nifti(
    values: np.ndarray, spacing: tuple[float, float, float] = MM, axes: str = "LPS", **options: Any
) -> bytes:
    """Return a file whose stored axes run towards the named directions; `values` run towards LPS."""
    stored = nibabel.Nifti1Image(values, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]))
    transform = ornt_transform(axcodes2ornt("LPS"), axcodes2ornt(axes))
    turned = stored.as_reoriented(transform)
    kind = options.pop("kind", nibabel.Nifti1Image)
    image = kind(np.asarray(turned.dataobj), turned.affine)
    for name, value in options.items():
        image.header[name] = value
    assert nibabel.aff2axcodes(image.affine) == tuple(axes)
    return bytes(image.to_bytes())


def test_slices_are_axial_and_upright() -> None:
    picture = read(nifti(volume()))

    assert (picture.format, picture.width, picture.height, picture.slice_count) == ("NIfTI", 80, 96, 6)
    assert [part.index for part in picture.slices] == [1, 2, 3, 4]
    for part in picture.slices:
        assert difference(preprocess(part.image, HOW), reference()) < 1.0


def reference() -> np.ndarray:
    from PIL import Image

    return preprocess(Image.fromarray(head(96, 80)), HOW)


DIRECTIONS = [
    "".join(pick)
    for order in itertools.permutations(("LR", "AP", "IS"))
    for pick in itertools.product(*order)
]


@pytest.mark.parametrize("axes", DIRECTIONS)
def test_stored_axes_do_not_show(axes: str) -> None:
    """All 48 ways to store a volume give the same slices in the same order."""
    expected = read(nifti(volume()))

    picture = read(nifti(volume(), axes=axes))

    assert [part.index for part in picture.slices] == [part.index for part in expected.slices]
    for part, other in zip(picture.slices, expected.slices, strict=True):
        assert part.image.tobytes() == other.image.tobytes()


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "u2", "i4", "f4", "f8", ">f4"])
@pytest.mark.parametrize("packed", [False, True])
def test_number_type_version_and_gzip_do_not_show(kind: str, dtype: Any, packed: bool) -> None:
    values = (volume(3) // 2)[..., 1:2].astype(dtype).repeat(3, axis=2)
    data = nifti(values, kind=kind)

    picture = read(gzip.compress(data) if packed else data)

    assert picture.slice_count == 3
    assert difference(preprocess(picture.slices[0].image, HOW), reference()) < 1.0


def test_slope_and_intercept_are_applied() -> None:
    data = bytearray(nifti(volume()))
    data[112:120] = struct.pack("<ff", -2.0, 5.0)  # scl_slope, scl_inter

    inverted = next(part.image for part in read(bytes(data)).slices if part.index == 2)

    assert inverted.getpixel((0, 0)) == inverted.getextrema()[1]  # what was lowest is highest


def test_first_volume_of_a_series_is_taken() -> None:
    series = np.stack([volume(), volume() * 0], axis=-1)
    data = nibabel.Nifti1Image(series, np.diag([-1.0, -1.0, 5.0, 1.0])).to_bytes()

    picture = read(data)

    assert picture.slice_count == 6
    assert len(picture.slices) == 4


def test_thick_slices_are_judged_in_the_plane_they_were_acquired_in() -> None:
    """A sagittal series of 6 mm slices is not cut across: that would show six columns."""
    sagittal = np.stack([head(96, 80).T.astype(np.int16)] * 6, axis=0)  # (left, back, head)

    picture = read(nifti(sagittal, spacing=(6.0, 1.0, 1.0)))

    assert picture.slice_count == 6
    assert (picture.width, picture.height) == (80, 96)


def test_sagittal_slices_are_head_up() -> None:
    values = np.zeros((4, 80, 96), np.int16)
    values[:, :, 48:] = 100  # the upper half shines

    picture = read(nifti(values, spacing=(6.0, 1.0, 1.0)))

    shown = np.asarray(picture.slices[0].image)
    assert shown[:48].min() == 255
    assert shown[48:].max() == 0


def test_oblong_voxels_are_made_square() -> None:
    squeezed = volume()[:, ::2]

    picture = read(nifti(squeezed, spacing=(1.0, 2.0, 5.0)))

    assert picture.slices[0].image.size == (80, 96)


def test_many_slices_are_evenly_spaced_among_those_with_a_head() -> None:
    values = np.concatenate(
        [volume(3)[..., :1].repeat(20, axis=2), volume(3)[..., 1:2].repeat(40, axis=2)], axis=2
    )

    picture = read(nifti(values, spacing=(1.0, 1.0, 1.0)), Limits(max_slices=8))

    assert picture.slice_count == 60
    assert [part.index for part in picture.slices] == [22, 27, 32, 37, 42, 47, 52, 57]


def test_flat_picture_is_one_slice() -> None:
    picture = read(nibabel.Nifti1Image(head(96, 80).T.copy(), np.diag([-1.0, -1.0, 1.0, 1.0])).to_bytes())

    assert picture.slice_count == 1


@pytest.mark.parametrize("packed", [False, True])
def test_volume_cut_anywhere_is_incomplete(packed: bool) -> None:
    data = nifti(volume())
    data = gzip.compress(data) if packed else data

    for share in range(8, 100, 5):
        got = picture_or_error(data[: len(data) * share // 100])
        assert isinstance(got, PictureError), share
        assert got.kind == ReadFailure.INCOMPLETE, (share, got.reason)


def reason(data: bytes, limits: Limits = LIMITS) -> str:
    got = picture_or_error(data, limits)
    assert isinstance(got, PictureError)
    assert got.kind == ReadFailure.PERMANENT
    return got.reason


def test_gzip_bomb_is_not_inflated() -> None:
    bomb = gzip.compress(nifti(volume()) + bytes(100_000_000), 1)
    start = time.perf_counter()

    assert read(bomb).slice_count == 6  # what follows the volume is never inflated
    assert time.perf_counter() - start < 2


def test_volume_over_a_limit_is_refused_from_its_header() -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 3000))
    header.set_data_dtype(np.int16)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    data = header.binaryblock + bytes(4)

    assert "limit" in reason(data)
    assert "limit" in reason(gzip.compress(data))


def test_what_is_no_volume_is_refused() -> None:
    colours = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])

    assert "no NIfTI" in reason(gzip.compress(b"some log file" * 100))
    assert "another file" in reason(nibabel.Nifti1Pair(volume(), np.eye(4)).header.binaryblock)
    assert "colours" in reason(nibabel.Nifti1Image(colours, np.eye(4)).to_bytes())
    assert "gzip" in reason(b"\x1f\x8b" + b"garbage" * 99)


def test_real_volume_and_its_dicom_slices_agree(shared: Path) -> None:
    """The same FLAIR series as one NIfTI file and as DICOM objects: slice by slice the same input."""
    picture = read((shared / "data" / "nifti" / "brainix-flair.nii.gz").read_bytes())
    paths = sorted((shared / "data" / "dicom" / "brainix-flair").glob("*.dcm"), key=height)

    assert picture.slice_count == len(paths)
    for part in picture.slices:
        seen = preprocess(part.image, HOW)
        assert difference(seen, network_input(paths[part.index].read_bytes())) < 0.1, part.index


def height(path: Path) -> float:
    return float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2])
