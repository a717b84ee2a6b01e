"""Which images are measured: real slices of one size where they are, drawn ones otherwise, all different."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from trainer.images.phantom import phantom

_DRAWN = 200  # different drawings; more would only take longer to draw


def fill(folder: Path, count: int, side: int, data: Path | None) -> str:
    """Write `count` JPEG files of side x side pixels, no two alike; return where they come from.

    Real images of that size are taken as they are. Others are resized once and saved as JPEG.
    When there are too few, they are taken again with another comment, so that every file is decoded.
    """
    folder.mkdir(parents=True)
    pool = list(_pool(side, count, data))
    for number in range(count):
        jpeg = pool[number % len(pool)]
        name = folder / f"{number:06}.jpg"
        name.write_bytes(jpeg[:2] + b"\xff\xfe\x00\x0a" + b"%08d" % number + jpeg[2:])
    source = "drawn" if data is None else "real"
    return f"{count} files of {side} px from {len(pool)} different {source} slices"


def _pool(side: int, count: int, data: Path | None) -> Iterator[bytes]:
    if data is None:
        for number in range(min(count, _DRAWN)):
            yield _jpeg(phantom(number, lesion=number % 2 == 0, size=side, label=False))
        return
    found = sorted(path for path in data.rglob("*.jp*g") if path.is_file())
    step = max(1, len(found) // count)  # spread over all folders
    taken = 0
    for path in found[::step]:
        with Image.open(path) as image:
            if image.format != "JPEG":
                continue
            yield (
                path.read_bytes()
                if image.size == (side, side)
                else _jpeg(image.convert("L").resize((side, side), Image.Resampling.BICUBIC))
            )
        taken += 1
        if taken == count:
            return


def _jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()
