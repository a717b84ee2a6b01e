"""Tell whether images are plainly in colour, from a few of their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from trainer.images.decode import Limits, PictureError, decode, read_file

_LOOKED_AT: Final = 24  # files, evenly spaced
_SIDE: Final = 32  # pixels they are reduced to, about
# A pixel whose channels differ by more is coloured; JPEG's rounding makes greys differ by a few.
_CHROMA: Final = 30
# A picture with so many coloured pixels is in colour: more than marks and logos on a scan.
_COLOURED_PIXELS, _COLOURED_FILES = 0.15, 0.5


def plainly_coloured(paths: Sequence[Path]) -> bool:
    """Whether at least half of the files looked at show colours; what cannot be read does not count."""
    places = np.linspace(0, len(paths) - 1, min(len(paths), _LOOKED_AT)).astype(int)
    seen = [_is_coloured(paths[place]) for place in places]
    known = [one for one in seen if one is not None]
    return bool(known) and sum(known) >= _COLOURED_FILES * len(known)


def _is_coloured(path: Path) -> bool | None:
    limits = Limits(max_slices=1)
    try:
        image = decode(read_file(path, limits).data, limits, _SIDE, colour=True).slices[0].image
    except PictureError:
        return None
    pixels = np.asarray(image).astype(np.int16)
    coloured = pixels.max(axis=2) - pixels.min(axis=2) > _CHROMA
    return bool(coloured.mean() > _COLOURED_PIXELS)
