"""Label maps of whole heads: read from NIfTI, cut in any plane, and what their numbers stand for.

The numbers are FreeSurfer's (FreeSurferColorLUT.txt), as SynthSeg's training maps have them: up to 499
the brain and its fluid, from 500 on what surrounds it. A number that `KINDS` does not know is tissue.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from config.errors import DataError
from config.text import printable
from trainer.images.arrays import Array, Doubles, Ints
from trainer.images.formats.nifti import read_volume
from trainer.images.picture import Limits, PictureError
from trainer.images.read import read_file

# What computed tomography tells apart, by FreeSurfer's numbers. Grey matter is the rest below 500.
KINDS: dict[str, tuple[int, ...]] = {
    "air": (0, 130),
    "fluid": (4, 5, 14, 15, 24, 43, 44, 72, 122, 257),
    "white": (2, 7, 16, 28, 41, 46, 60, 77, 85, 192, 251, 252, 253, 254, 255, 512, 530),
    "vessel": (30, 31, 62, 63, 502, 514),  # the plexus with them: both shine with contrast
    "bone": (121, 129, 165, 515),
    "marrow": (516,),
    "eye": (506,),
    "soft": (120, 123, 258, 507, 508, 509),
    "skin": (118, 511),
}
# The right half's number of each of the left half's, beyond the two runs of 2..13 and 41..52.
_RIGHT_OF = {17: 53, 18: 54, 25: 57, 26: 58, 28: 60, 30: 62, 31: 63, 136: 163, 137: 164}
_RIGHT_OF |= {left: left + 39 for left in range(2, 14)}
BRAIN = 500  # numbers below are the brain and its fluid
MOST = 1024  # numbers there may be
_FLUID_AROUND = 24
_FEWEST_BRAIN = 1000  # voxels: fewer are no head
# A head is 160 to 250 mm long: with this step the side of a cut holds one.
_SIDE, _STEP = 208, 1.2  # pixels, mm


@dataclass(frozen=True, slots=True)
class LabelMap:
    """A head: numbers (right-to-left, front-to-back, foot-to-head), their spacing, and where the brain is."""

    labels: Array  # uint16
    spacing: Doubles  # (3,), mm
    low: Doubles  # (3,), the brain's first corner, voxels
    high: Doubles  # (3,), its last


def read_label_maps(folder: Path) -> list[LabelMap]:
    """Return the label maps (`*.nii.gz`, `*.nii`) of a folder, by name; raise DataError if one is none."""
    shown = printable(str(folder))
    paths = sorted([*folder.glob("*.nii.gz"), *folder.glob("*.nii")]) if folder.is_dir() else []
    if not paths:
        raise DataError(
            f"no label maps in {shown}",
            hint="--synthetic-heads takes a folder of NIfTI label maps (*.nii.gz)",
        )
    return [_label_map(path) for path in paths]


def _label_map(path: Path) -> LabelMap:
    try:
        limits = Limits()
        stored, spacing = read_volume(read_file(path, limits).data, limits)
    except PictureError as error:
        raise _no_map(path, error.reason) from None
    except Exception as error:  # noqa: BLE001 - nibabel raises anything
        raise _no_map(path, f"{type(error).__name__} while reading it") from None
    if stored.size == 0 or stored.min() < 0 or stored.max() >= MOST or (stored != np.rint(stored)).any():
        raise _no_map(path, f"its values are no whole numbers from 0 to {MOST - 1}")
    labels = np.ascontiguousarray(stored, dtype=np.uint16)
    brain = (labels > 0) & (labels < BRAIN) & (labels != _FLUID_AROUND)
    if brain.sum() < _FEWEST_BRAIN:
        raise _no_map(path, f"only {brain.sum()} voxels of a brain (FreeSurfer's numbers below {BRAIN})")
    inside = [np.flatnonzero(brain.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    low, high = (np.array([along[end] for along in inside], dtype=np.float64) for end in (0, -1))
    return LabelMap(labels, np.array(spacing), low, high)


def _no_map(path: Path, reason: str) -> DataError:
    return DataError(
        f"{printable(path.name)} is no label map: {reason}",
        hint="--synthetic-heads takes maps with FreeSurfer's numbers",
    )


def alike(values: Doubles) -> Doubles:
    """Return a value for each number (MOST,) with the right half's as the left half's."""
    both = values.copy()
    for left, right in _RIGHT_OF.items():
        both[right] = values[left]
    return both


def stripped(labels: Ints, *, fluid: bool) -> Ints:
    """Return the brain without what is around it, with or without the fluid that it swims in."""
    brain = (labels < BRAIN) & (fluid | (labels != _FLUID_AROUND))
    return np.where(brain, labels, 0)


# Across the picture, down it, and the way slices are counted, as radiologists look at them.
_PLANES = {
    "axial": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "coronal": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
}


@dataclass(frozen=True, slots=True)
class Cut:
    """One slice of a head: which plane, where along the brain, how turned, how thick."""

    plane: str  # "axial", "coronal", "sagittal"
    place: float  # from 0, the brain's first end, to 1
    tilt: float = 0.0  # radians, about the axis across the picture
    turn: float = 0.0  # radians, about the axis down it
    thickness: float = 2.0  # mm
    stretch: float = 1.0  # how much wider than it is
    mirrored: bool = False


def cut(head: LabelMap, how: Cut, rng: np.random.Generator, layers: int = 4) -> Ints:
    """Return the numbers (layers, 208, 208) of thin slices that together are one slice 250 mm wide.

    Each is shifted by up to half a pixel: their mean is smooth where the map has steps.
    """
    across, down, along = (np.array(axis, dtype=np.float64) for axis in _PLANES[how.plane])
    down, along = _turned(down, along, how.tilt)
    across, along = _turned(across, along, how.turn)
    middle = (head.low + head.high) / 2 + along * (how.place - 0.5) * (head.high - head.low)
    step = np.array([-_STEP if how.mirrored else _STEP, _STEP])
    step *= np.array([how.stretch**-0.5, how.stretch**0.5])
    offsets = (np.arange(layers) + 0.5) / layers - 0.5
    shifts = rng.uniform(-0.5, 0.5, (layers, 2))
    pixels = np.arange(_SIDE) - (_SIDE - 1) / 2
    found = np.zeros((layers, _SIDE, _SIDE), dtype=np.int64)
    for layer, (offset, shift) in enumerate(zip(offsets * how.thickness, shifts, strict=True)):
        x, y = (pixels[:, None] + shift).T * step[:, None]  # mm from the middle
        places = [
            middle[axis]
            + (across[axis] * x[None, :] + down[axis] * y[:, None] + along[axis] * offset)
            / head.spacing[axis]
            for axis in range(3)
        ]
        found[layer] = _looked_up(head.labels, np.rint(places).astype(np.int64))
    return found


def _looked_up(labels: Array, places: Ints) -> Ints:
    """Return the numbers (h, w) at places (3, h, w), air outside."""
    sides = np.array(labels.shape)[:, None, None]
    inside = ((places >= 0) & (places < sides)).all(axis=0)
    right, back, up = np.where(inside, places, 0)
    return np.where(inside, labels[right, back, up], 0)


def _turned(one: Doubles, other: Doubles, angle: float) -> tuple[Doubles, Doubles]:
    return np.cos(angle) * one + np.sin(angle) * other, np.cos(angle) * other - np.sin(angle) * one
