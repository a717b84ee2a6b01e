"""Does a file that could not be decoded stop short of its end? Then waiting may help, otherwise not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

_HOLE = bytes(16)


def is_cut_off(format_name: str, data: bytes, error: BaseException) -> bool:
    """Return whether the bytes of a raster file that gave `error` are only its beginning."""
    if format_name == "BMP" and not _is_bitmap(data):  # text may begin with BM
        return False
    words = str(error).lower()
    if "truncated" in words or "not enough" in words or isinstance(error, EOFError):
        return True
    if data.endswith(_HOLE):  # space reserved for what is still to be written
        return True
    return not _HAS_END[format_name](data)


def has_hole_at_end(format_name: str, data: bytes) -> bool:
    """Return whether a JPEG or WebP file ends in zeros where its compressed pixels should be.

    A file whose space is reserved before it is copied (browsers, `fallocate`) looks like that, and
    these two decoders take zeros for a picture without a word; the others notice.
    """
    if not data.endswith(_HOLE):
        return False
    if format_name == "JPEG":
        return not data.rstrip(b"\0").endswith(b"\xff\xd9")
    return format_name == "WEBP" and _last_webp_chunk(data) in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF", bytes(4))


def _last_webp_chunk(data: bytes) -> bytes:
    """Return the name of the chunk that a WebP file's bytes end in (RFC 9649, 2.3)."""
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        following = at + 8 + length + length % 2
        if length == 0 or following >= len(data):
            break
        at = following
    return data[at : at + 4]


def _tiff_directory(data: bytes) -> int:
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    if data[2:4] in (b"+\0", b"\0+"):  # BigTIFF
        return int.from_bytes(data[8:16], order)
    return int.from_bytes(data[4:8], order)


def _is_bitmap(data: bytes) -> bool:
    """Return whether `BM` is followed by a header of a known length, or by nothing yet."""
    return len(data) < 18 or int.from_bytes(data[14:18], "little") in (12, 16, 40, 52, 56, 64, 108, 124)


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
