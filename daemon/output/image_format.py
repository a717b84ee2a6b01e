"""The format of a picture that is written: as its file is called."""

from __future__ import annotations

from pathlib import Path

from config.errors import UsageError
from config.text import printable

_FORMATS = {"": "PNG", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def picture_format(place: Path) -> str:
    """Return Pillow's name of the format; raise UsageError for a suffix of another."""
    found = _FORMATS.get(place.suffix.lower())
    if found is None:
        raise UsageError(
            f"{printable(place.name)}: pictures are written as PNG or JPEG",
            hint=f"name it {printable(place.stem)}.png or {printable(place.stem)}.jpg",
        )
    return found
