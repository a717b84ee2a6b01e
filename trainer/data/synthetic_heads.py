"""Synthetic heads: slices of label maps as magnetic resonance in any contrast, and as computed tomography.

A tone drawn at random for every label, shading, blur and noise make a tumour-free head of a sequence and
scanner that nobody has (Billot et al. 2023, "SynthSeg: Segmentation of brain MRI scans of any contrast and
resolution without retraining"). With the tissues' attenuation instead, in the windows that radiologists
use, the same heads are tomograms, which the rejection limit is to know.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from trainer.data.label_maps import BRAIN, KINDS, MOST, Cut, LabelMap, alike, cut, read_label_maps, stripped
from trainer.images.arrays import Bools, Doubles, Grey, Ints
from trainer.model.preprocess import preprocess
from trainer.model.spec import Preprocessing

_STRIPPED = 0.3  # share of the heads that show no skull
# A whole brain fills a quarter of a cut; of the vertex a tenth of that is still worth looking at.
_LEAST_BRAIN = 0.025
# Attenuation in Hounsfield units, from and to, after textbooks; "soft" is drawn between fat and muscle.
_ATTENUATION = {
    "air": (-1000, -1000),
    "fluid": (0, 14),
    "white": (24, 32),
    "grey": (32, 42),
    "vessel": (38, 60),
    "bone": (900, 1700),
    "marrow": (250, 900),
    "eye": (5, 20),
    "soft": (-90, 60),
    "skin": (-20, 60),
}
_VESSELS_WITH_CONTRAST = (110, 260)
_FAT, _MUSCLE = -95.0, 55.0
_AIR = -1000.0


def synthetic_heads(folder: Path, preprocessing: Preprocessing, count: int, seed: int) -> Grey:
    """Return `count` network inputs (count, S, S) uint8: tumour-free slices of the folder's label maps.

    Any contrast and plane, nearly a third of them without skull; the same for the same seed. Raises
    DataError if the folder holds no label maps.
    """
    return _rendered(_resonance, folder, preprocessing, count, seed)


def synthetic_tomograms(folder: Path, preprocessing: Preprocessing, count: int, seed: int) -> Grey:
    """Return `count` network inputs (count, S, S) uint8: the folder's heads as computed tomography.

    Raises DataError if the folder holds no label maps.
    """
    return _rendered(_tomogram, folder, preprocessing, count, seed)


def _rendered(
    render: Callable[[LabelMap, np.random.Generator], Image.Image],
    folder: Path,
    preprocessing: Preprocessing,
    count: int,
    seed: int,
) -> Grey:
    heads = read_label_maps(folder)
    rng = np.random.default_rng((seed, 13))
    side = preprocessing.image_size
    made = [preprocess(render(heads[number % len(heads)], rng), preprocessing) for number in range(count)]
    return np.stack(made) if made else np.zeros((0, side, side), dtype=np.uint8)


def _resonance(head: LabelMap, rng: np.random.Generator) -> Image.Image:
    """One slice in a contrast of its own."""
    plane = str(rng.choice(["axial", "axial", "coronal", "sagittal"]))
    how = Cut(
        plane,
        rng.uniform(0.08, 0.97) if plane == "axial" else rng.uniform(0.15, 0.85),
        tilt=rng.uniform(-0.3, 0.3),
        turn=rng.uniform(-0.1, 0.1),
        thickness=rng.uniform(1, 6),
        stretch=np.exp(rng.uniform(-0.12, 0.12)),
        mirrored=bool(rng.random() < 0.5),
    )
    labels = cut(head, how, rng)
    if rng.random() < _STRIPPED:
        labels = stripped(labels, fluid=bool(rng.random() < 0.5))
    if _brain(labels).mean() < _LEAST_BRAIN:
        return _resonance(head, rng)
    picture = _tones(rng)[labels].mean(axis=0)
    picture *= 1 + rng.uniform(0, 0.08) * _field(rng, picture.shape, 48)  # tissue is not flat
    picture = gaussian_filter(picture, rng.uniform(0.3, 1.2))
    picture *= np.exp(rng.uniform(0, 0.3) * _field(rng, picture.shape, 4))
    noise = rng.uniform(0.0, 0.05) * rng.normal(0, 1, (2, *picture.shape))
    picture = np.hypot(picture + noise[0], noise[1])  # Rician, as magnitudes have it
    return _grey(picture / max(np.percentile(picture, 99.7), 1e-6) * rng.uniform(180, 255))


def _tones(rng: np.random.Generator) -> Doubles:
    """Return a tone 0..1 for every number (MOST,): each kind's, more or less, or none alike; air is black."""
    loose = rng.uniform(0.02, 0.12) if rng.random() < 0.7 else 1.0
    own = rng.uniform(0, 1, MOST)
    of_kind = np.full(MOST, rng.uniform(0.2, 1))  # grey matter
    of_kind[BRAIN:] = rng.uniform(0.1, 1)
    for numbers in KINDS.values():
        of_kind[list(numbers)] = rng.uniform(0.05, 1)
    if rng.random() < 0.7:
        of_kind[list(KINDS["bone"])] = rng.uniform(0, 0.25)  # cortical bone gives no signal
        own[list(KINDS["bone"])] = of_kind[list(KINDS["bone"])]
    tones = alike(of_kind * (1 - loose) + own * loose)
    tones[list(KINDS["air"])] = 0.0
    return tones


def _tomogram(head: LabelMap, rng: np.random.Generator) -> Image.Image:
    """One slice of a tomogram in one of its windows, sometimes with the holder that the head lies in."""
    plane = str(rng.choice(["axial"] * 8 + ["coronal", "sagittal"]))
    how = Cut(
        plane,
        rng.uniform(0.0, 1.0) if plane == "axial" else rng.uniform(0.15, 0.85),
        tilt=rng.uniform(-0.1, 0.45) if plane == "axial" else rng.uniform(-0.1, 0.1),  # the gantry's
        turn=rng.uniform(-0.1, 0.1),
        thickness=rng.uniform(1, 8),
        stretch=np.exp(rng.uniform(-0.12, 0.12)),
        mirrored=bool(rng.random() < 0.5),
    )
    labels = cut(head, how, rng)
    if (labels > 0).mean() < _LEAST_BRAIN:
        return _tomogram(head, rng)
    fat = _field(rng, (labels.shape[1], labels.shape[2]), 16) > rng.uniform(-1, 1)
    attenuation = _attenuation(rng)[labels]
    attenuation = np.where(labels == _OTHER_TISSUE, np.where(fat, _FAT, _MUSCLE), attenuation).mean(axis=0)
    _bleed(attenuation, labels, rng)
    attenuation = gaussian_filter(attenuation, rng.uniform(0.3, 1.0))
    if plane == "axial" and rng.random() < 0.35:
        _hold(attenuation, rng)
    grain = gaussian_filter(rng.normal(0, 1, attenuation.shape), rng.uniform(0.3, 0.9))
    attenuation += rng.uniform(0.5, 7) * grain / grain.std() * (attenuation > _AIR / 2)
    centre, width = _window(rng)
    return _grey((attenuation - centre + width / 2) / width * 255)


_OTHER_TISSUE = 507  # fat and muscle, which maps do not tell apart


def _attenuation(rng: np.random.Generator) -> Doubles:
    """Return the attenuation (MOST,) of every number, HU."""
    drawn = {kind: rng.uniform(*reach) for kind, reach in _ATTENUATION.items()}
    if rng.random() < 0.2:
        drawn["vessel"] = rng.uniform(*_VESSELS_WITH_CONTRAST)
    table = np.full(MOST, drawn["grey"]) + rng.normal(0, 1.0, MOST)
    table[BRAIN:] = drawn["soft"]
    for kind, numbers in KINDS.items():
        table[list(numbers)] = drawn[kind]
    return alike(table)


def _window(rng: np.random.Generator) -> tuple[float, float]:
    """Return the centre and width, HU, of a window: mostly for the brain, at times for blood or bone."""
    kind = rng.random()
    if kind < 0.7:
        return rng.uniform(28, 48), rng.uniform(60, 120)
    if kind < 0.9:
        return rng.uniform(30, 100), rng.uniform(120, 350)
    return rng.uniform(200, 600), rng.uniform(1000, 2800)


def _bleed(attenuation: Doubles, labels: Ints, rng: np.random.Generator) -> None:
    """Put blood or an infarct somewhere into a third of the brains, in place."""
    brain = _brain(labels[0])
    places = np.argwhere(brain)
    if rng.random() > 0.33 or not len(places):
        return
    centre = places[int(rng.integers(len(places)))]
    rows, columns = (np.arange(side, dtype=np.float64) for side in attenuation.shape)
    distance = np.hypot(
        (rows[:, None] - centre[0]) / rng.uniform(4, 25), (columns[None, :] - centre[1]) / rng.uniform(4, 25)
    )
    inside = (distance + 0.3 * _field(rng, attenuation.shape, 10) < 1) & brain
    attenuation[inside] += rng.uniform(20, 45) if rng.random() < 0.5 else rng.uniform(-20, -8)


def _hold(attenuation: Doubles, rng: np.random.Generator) -> None:
    """Draw the shell of a head rest behind the head, in place."""
    rows, columns = np.nonzero(attenuation > _AIR / 2)
    if not len(rows):
        return
    middle = float(columns.mean()) + rng.uniform(-8, 8)
    radius = rng.uniform(0.45, 0.7) * float(np.ptp(columns) + 1)
    bottom = float(rows.max()) + rng.uniform(1, 8)
    y, x = (np.arange(side, dtype=np.float64) for side in attenuation.shape)
    away = np.hypot(y[:, None] - (bottom - radius), x[None, :] - middle)
    low = y[:, None] > bottom - radius * rng.uniform(0.3, 1.2)
    for shell in range(int(rng.integers(1, 3))):
        ring = (np.abs(away - radius - 5 * shell) < rng.uniform(0.4, 1.5)) & low & (attenuation < _AIR / 2)
        attenuation[ring] = rng.uniform(-100, 300)


def _brain(labels: Ints) -> Bools:
    return (labels > 0) & (labels < BRAIN)


def _field(rng: np.random.Generator, shape: tuple[int, ...], knots: int) -> Doubles:
    """Return smooth noise of about unit size."""
    coarse = rng.normal(0, 1, (knots, knots))
    fine: Doubles = zoom(
        coarse, (shape[0] / knots, shape[1] / knots), order=1, grid_mode=True, mode="nearest"
    )
    return fine


def _grey(picture: Doubles) -> Image.Image:
    return Image.fromarray(np.rint(picture.clip(0, 255)).astype(np.uint8))
