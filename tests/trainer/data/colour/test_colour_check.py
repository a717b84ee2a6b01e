"""Images are called coloured when most of those looked at show colours."""

from __future__ import annotations

from pathlib import Path

from tests.support.flowers import draw_flowers
from trainer.data.colour.colour_check import plainly_coloured
from trainer.images.phantom import phantom


def test_flowers_are_in_colour_and_slices_are_not(tmp_path: Path) -> None:
    flowers = sorted(draw_flowers(tmp_path / "flowers", 3).rglob("*.jpg"))
    slices = [tmp_path / f"{number}.jpg" for number in range(6)]
    for number, path in enumerate(slices):
        phantom(number, lesion=False).convert("RGB").save(path)

    assert plainly_coloured(flowers)
    assert not plainly_coloured(slices)
    assert not plainly_coloured([*flowers[:3], *slices])


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")

    assert not plainly_coloured([tmp_path / "broken.jpg", tmp_path / "gone.jpg"])
