"""Decode NIfTI to grey slices: oriented by its header, cut as it was acquired or axially.

Slices are axial, shown as radiologists see them (the patient's right on the left, front at the top),
unless the voxels are more than twice as long in one direction as in the others and that direction is
not the head's: then the volume is cut across that direction, since a reformat of thick slices shows
little. Slices are counted from 0 in the patient's foot-to-head (right-to-left, back-to-front)
direction. Of a 4-D file the first volume is taken. Gzip is inflated no further than that.
"""

from __future__ import annotations

import math
import warnings
import zlib
from typing import Any

import numpy as np
from PIL import Image

from trainer.images.arrays import Array
from trainer.images.aspect import plausible, stretched
from trainer.images.formats.sniff import is_nifti
from trainer.images.grayscale import to_8_bits, window_of
from trainer.images.picture import Limits, Picture, PictureError, ReadFailure, Slice, Tones, refuse
from trainer.images.reduction import reduction
from trainer.images.silence import silence_loggers
from trainer.images.volume import evenly_spaced, sample, with_head

_HEADER = 544  # bytes: the longer of the two headers and the four that follow it
_THICK = 2.0  # slices this much thicker than their pixels are not cut across


def decode_nifti(data: bytes, limits: Limits, image_size: int) -> Picture:
    """Return the picture of a NIfTI file, gzipped or not; raise PictureError or whatever nibabel raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stack = NiftiStack(data, limits)
        full = with_head([sample(stack.values(number)) for number in range(stack.count)])
        slices = []
        for number in evenly_spaced(full, limits, stack.width * stack.height):
            picture = stack.picture(stack.values(number))
            factor = reduction(picture.width, picture.height, image_size)
            slices.append(Slice(number, picture.reduce(factor) if factor > 1 else picture))
        return Picture("NIfTI", stack.width, stack.height, tuple(slices), stack.count)


class NiftiStack:
    """A NIfTI volume, gzipped or not, cut into slices; raises PictureError or whatever nibabel raises."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = _Source(data)
            self._header = _header(source.first(_HEADER))
            volume, spacing = _oriented(source, self._header, limits)
        across = _cut_across(spacing)
        cuts = np.moveaxis(volume, across, 0)  # (slices, first in-plane axis, second)
        if across != 2:
            cuts = cuts[:, :, ::-1]  # the head is at the top
        self._cuts = cuts
        self._aside, self._upwards = (spacing[axis] for axis in range(3) if axis != across)
        self.count, self.width, self.height = cuts.shape
        limits.check_size(self.width, self.height)

    def values(self, number: int) -> Array:
        """Return a slice's numbers, (width, height)."""
        return _values(self._cuts[number], self._header)

    def picture(self, values: Array) -> Image.Image:
        """Return a slice's numbers as grey with square pixels."""
        return stretched(Image.fromarray(to_8_bits(values).T), self._upwards / self._aside)

    def tones(self, number: int) -> Tones:
        """Return a slice."""
        values = self.values(number)
        sides = (self._upwards, self._aside)
        known = all(0 < side < math.inf for side in sides)
        return Tones(
            values.T,
            *window_of(values),
            self.picture(values),
            ratio=plausible(sides[0] / sides[1]) if known else 1.0,
            spacing=sides if known else None,
        )


def read_volume(data: bytes, limits: Limits) -> tuple[Array, tuple[float, float, float]]:
    """Return a NIfTI file's stored numbers (right-to-left, front-to-back, foot-to-head), and spacing in mm.

    Neither scaled nor cut: for label maps, whose numbers are names. Raises PictureError, or whatever
    nibabel raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = _Source(data)
        return _oriented(source, _header(source.first(_HEADER)), limits)


class _Source:
    """The first bytes of a file that may be gzipped, inflated only as far as is asked."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._gzipped = data.startswith(b"\x1f\x8b")

    def first(self, size: int) -> bytes:
        """Return the first `size` bytes, fewer if there are no more."""
        if not self._gzipped:
            return self._data[:size]
        inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            return inflater.decompress(self._data, size)
        except zlib.error:
            refuse("a broken gzip file")


def _header(start: bytes) -> Any:
    """Return nibabel's header object; refuse a gzip file of something else, and half a pair."""
    if not is_nifti(start):
        if len(start) < 348:
            raise PictureError(ReadFailure.INCOMPLETE, "a truncated gzip file")
        refuse("a gzip file that holds no NIfTI volume")
    from nibabel import Nifti1Header, Nifti2Header

    silence_loggers("nibabel", "nibabel.global")
    two = start[4:7] in (b"n+2", b"ni2")
    if (start[4:7] if two else start[344:347]) in (b"ni1", b"ni2"):
        refuse("a NIfTI header whose pixels lie in another file")
    size = 540 if two else 348
    make: Any = Nifti2Header if two else Nifti1Header
    return make(start[:size], check=False)


def _oriented(source: _Source, header: Any, limits: Limits) -> tuple[Array, tuple[float, float, float]]:
    """Return the stored numbers (right-to-left, front-to-back, foot-to-head) and their spacing in mm."""
    import nibabel.orientations

    io_orientation: Any = nibabel.orientations.io_orientation
    shape = tuple(int(side) for side in header.get_data_shape())
    if len(shape) < 2 or min(shape) < 1:
        refuse("a NIfTI file without a picture")
    shape = (*shape, 1)[:3]
    kind = header.get_data_dtype()
    if kind.fields is not None or kind.kind not in "iuf":
        refuse("a NIfTI file of colours or complex numbers")
    count = shape[0] * shape[1] * shape[2]
    start = max(int(header.get_data_offset()), 0)
    if start + count * kind.itemsize > limits.max_bytes:
        refuse(f"a NIfTI volume beyond the limit of {limits.max_bytes} bytes")
    content = source.first(start + count * kind.itemsize)
    if len(content) < start + count * kind.itemsize:
        raise PictureError(ReadFailure.INCOMPLETE, "a truncated NIfTI file")
    stored = np.frombuffer(content, kind, count, start).reshape(shape, order="F")
    orientation = io_orientation(header.get_best_affine())
    axes = [int(np.flatnonzero(orientation[:, 0] == axis)[0]) for axis in range(3)]
    # nibabel counts towards right, front and head; pictures run towards left and back.
    steps = [int(orientation[axis, 1]) * sign for axis, sign in zip(axes, (-1, -1, 1), strict=True)]
    volume = stored.transpose(axes)[tuple(slice(None, None, step) for step in steps)]
    zooms = [abs(float(zoom)) for zoom in (*header.get_zooms(), 1.0, 1.0)[:3]]
    return volume, (zooms[axes[0]], zooms[axes[1]], zooms[axes[2]])


def _cut_across(spacing: tuple[float, float, float]) -> int:
    """Return the axis that slices are counted along: the head's (2) unless another one is much coarser."""
    thickest = int(np.argmax(spacing))
    return thickest if spacing[thickest] > _THICK * spacing[2] else 2


def _values(cut: Array, header: Any) -> Array:
    slope, intercept = header.get_slope_inter()
    values = np.asarray(cut, dtype=np.float32)
    return values if slope is None else values * np.float32(slope) + np.float32(intercept or 0.0)
