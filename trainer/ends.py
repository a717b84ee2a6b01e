"""Does a file that could not be decoded stop short of its end? Then waiting may help, otherwise not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal


def is_cut_off(format_name: str, data: bytes, error: Exception) -> bool:
    """Return whether the bytes of a raster file that gave `error` are only its beginning."""
    words = str(error).lower()
    if "truncated" in words or "not enough" in words or isinstance(error, EOFError):
        return True
    return not _HAS_END[format_name](data)


def has_hole_at_end(data: bytes) -> bool:
    """Return whether a JPEG ends in zeros where its end marker should be.

    A file whose space is reserved before it is copied (browsers, `fallocate`) looks like that, and
    libjpeg takes zeros for a grey picture without a word.
    """
    return data.endswith(b"\0" * 16) and not data.rstrip(b"\0").endswith(b"\xff\xd9")


def _tiff_directory(data: bytes) -> int:
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    if data[2:4] in (b"+\0", b"\0+"):  # BigTIFF
        return int.from_bytes(data[8:16], order)
    return int.from_bytes(data[4:8], order)


# How each format shows that it is complete.
_HAS_END: dict[str, Callable[[bytes], bool]] = {
    "JPEG": lambda data: data.rstrip(b"\0\r\n").endswith(b"\xff\xd9"),
    "PNG": lambda data: b"IEND" in data[-64:],
    "GIF": lambda data: data.rstrip(b"\0\r\n").endswith(b";"),
    # RIFF: the size of what follows the first eight bytes.
    "WEBP": lambda data: len(data) >= 8 + int.from_bytes(data[4:8], "little"),
    # The file's size, where a writer has filled it in.
    "BMP": lambda data: len(data) >= int.from_bytes(data[2:6], "little"),
    # The first directory often stands at the end.
    "TIFF": lambda data: len(data) >= _tiff_directory(data) + 2,
}
