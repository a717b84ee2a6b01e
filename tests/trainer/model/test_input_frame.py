"""The part of a picture that is said to be a network's input is the part that the input shows."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from trainer.model.foreign_network import SquareFraming
from trainer.model.preprocess import input_frame, preprocess
from trainer.model.spec import Preprocessing

_SIDE = 64
FRAMINGS = [
    SquareFraming("crop", 80),
    SquareFraming("crop", 0),
    SquareFraming("stretch"),
    SquareFraming("pad", interpolation="bicubic"),
]


def _picture(width: int, height: int) -> Image.Image:
    """Colours that tell their place: red from left to right, green from top to bottom, blue throughout."""
    x, y = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 255)], axis=2).astype(np.uint8))


@pytest.mark.parametrize("size", [(300, 200), (90, 240), (64, 64)])
@pytest.mark.parametrize(
    "how",
    [
        *(
            Preprocessing(image_size=_SIDE, crop_head=False, channels=3, framing=framing)
            for framing in FRAMINGS
        ),
        Preprocessing.of_colour(_SIDE),
    ],
    ids=["crop of 80", "crop", "stretch", "pad", "colour"],
)
def test_places_in_the_input_are_where_the_frame_says(how: Preprocessing, size: tuple[int, int]) -> None:
    picture = _picture(*size)

    seen = preprocess(picture, how).astype(float)
    frame = input_frame(picture, how)

    left, upper, right, lower = frame.square
    centres = (np.arange(_SIDE) + 0.5) / _SIDE
    inside = seen[:, :, 2] > 250  # the rest is border
    across = np.broadcast_to(left + (right - left) * centres, (_SIDE, _SIDE))[inside]
    down = np.broadcast_to((upper + (lower - upper) * centres)[:, None], (_SIDE, _SIDE))[inside]
    assert inside.sum() > _SIDE * _SIDE / 4
    assert np.abs(seen[:, :, 0][inside] / 200 - across).max() < 0.03
    assert np.abs(seen[:, :, 1][inside] / 200 - down).max() < 0.03
    assert (frame.black, frame.white) == (0, 255)
