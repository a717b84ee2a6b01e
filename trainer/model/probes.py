"""Probe pictures: drawn heads of the same bytes on every machine, to compare engines on.

Drawn in whole numbers by NumPy alone, from the raw stream of its PCG64, which never changes (NEP 19): another
version of a drawing library must not make another picture of it, or what a network said of the one would be
compared with what it says of the other.
"""

from __future__ import annotations

import numpy as np

from trainer.images.arrays import Bools, Grey, Ints

PROBES = 64
_NOISE_ONLY = 4  # the last ones
_UNIT = 1024  # half a side, in the numbers that shapes are told in
_DRAWS = 16  # drawn numbers that a head is made of; those behind them are its noise


def probes(side: int, channels: int = 1) -> Grey:
    """Return the probe pictures (64, side, side) uint8, in colour (64, side, side, 3).

    The colours of one are three of the grey ones, no two of which are alike: an engine that takes them in
    another order is found out.
    """
    if channels > 1:
        grey = probes(side)
        apart = PROBES // channels
        return np.stack([np.roll(grey, -apart * place, axis=0) for place in range(channels)], axis=-1)
    pictures = np.empty((PROBES, side, side), dtype=np.uint8)
    for number in range(PROBES - _NOISE_ONLY):
        pictures[number] = _head(number, side)
    for number in range(PROBES - _NOISE_ONLY, PROBES):
        pictures[number] = _drawn(number, side * side).reshape(side, side)
    return pictures


def _head(number: int, side: int) -> Ints:
    """Return a head (side, side), every other one with a bright lesion, blurred and noisy."""
    drawn = _drawn(number, _DRAWS + side * side)
    of = [int(one) for one in drawn[:_DRAWS]]
    wide, tall = 700 + of[0] // 2, 800 + of[1] // 2
    x, y = 40 - of[2] // 3, 40 - of[3] // 3
    picture = np.zeros((side, side), dtype=np.int64)
    for share, grey in ((100, 110 + of[4] // 3), (93, 20), (87, 80 + of[5] // 5), (64, 110 + of[6] // 4)):
        picture[_ellipse(side, (x, y), (wide * share // 100, tall * share // 100))] = grey
    for sign in (-1, 1):
        apart = sign * (90 + of[7] // 4)
        picture[_ellipse(side, (x + apart, y - 40), (60 + of[8] // 6, 180 + of[9] // 3))] = 25 + of[10] // 8
    if number % 2:
        where = (x + (of[11] - 128) * 2, y + (of[12] - 128) * 2)
        radius = 90 + of[13] // 2
        picture[_ellipse(side, where, (radius * 3 // 2, radius * 4 // 3))] = 150 + of[14] // 6
        picture[_ellipse(side, where, (radius, radius))] = 190 + of[15] // 4
    grain = drawn[_DRAWS:].reshape(side, side) - 128
    noisy = _blurred(picture) + np.where(picture > 0, grain // (6 + number % 12), 0)
    return np.clip(noisy, 0, 255)


def _drawn(number: int, count: int) -> Ints:
    """Return numbers 0..255 (count,)."""
    words = np.random.PCG64(number).random_raw(-(-count // 8)).astype("<u8")
    return words.view(np.uint8)[:count].astype(np.int64)


def _ellipse(side: int, middle: tuple[int, int], half: tuple[int, int]) -> Bools:
    """Return which pixels (side, side) lie in an ellipse, told in units of which a side has 2048."""
    at = (2 * np.arange(side, dtype=np.int64) + 1 - side) * _UNIT // side
    across, down = (at - middle[0]) * half[1], (at - middle[1]) * half[0]
    inside: Bools = (across**2)[None, :] + (down**2)[:, None] <= (half[0] * half[1]) ** 2
    return inside


def _blurred(picture: Ints) -> Ints:
    """Return the mean of each pixel's neighbours, 3 x 3."""
    wide = np.pad(picture, 1)
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    blurred: Ints = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) // 9
    return blurred
