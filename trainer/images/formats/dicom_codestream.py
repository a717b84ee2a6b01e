"""Read a compressed frame's pixel count from its own header, before anything decodes it.

A DICOM header may say 10 x 10 and the JPEG 2000 stream in it 60,000 x 60,000.
"""

from __future__ import annotations

from trainer.images.picture import Limits, refuse

# JPEG's start-of-frame markers (ITU-T T.81, B.1.1.3) and JPEG-LS's (ITU-T T.87, C.1.1).
_SOF = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_JP2 = b"\0\0\0\x0cjP  "  # ITU-T T.800, I.5.1
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment


def check_codestream(stream: bytes, limits: Limits) -> None:
    """Refuse a JPEG, JPEG-LS or JPEG 2000 stream of more pixels than the limit; pass everything else."""
    if stream.startswith(_JP2):
        _check_boxes(stream)
    size = _jpeg_2000_size(stream) if _is_jpeg_2000(stream) else _jpeg_size(stream)
    if size is not None and size[0] and size[1]:  # a height of 0 is given later in the stream
        limits.check_size(*size)


def _check_boxes(stream: bytes) -> None:
    """Refuse a JP2 file with a box of no length before its codestream: pydicom would loop there."""
    at = 12  # the signature box
    while at < len(stream) and stream[at + 4 : at + 8] != b"jp2c":
        length = int.from_bytes(stream[at : at + 4], "big")
        if length == 0:
            refuse("a broken JPEG 2000 stream")
        at += length


def _is_jpeg_2000(stream: bytes) -> bool:
    return stream.startswith((b"\xff\x4f\xff\x51", _JP2))


def _jpeg_2000_size(stream: bytes) -> tuple[int, int] | None:
    """Return width and height of the SIZ segment (ITU-T T.800, A.5.1)."""
    at = stream.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(stream) < at + 24:
        return None
    x, y, x_offset, y_offset = (
        int.from_bytes(stream[at + 8 + 4 * number : at + 12 + 4 * number], "big") for number in range(4)
    )
    return max(0, x - x_offset), max(0, y - y_offset)


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    if not stream.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 <= len(stream):
        if stream[at] != 0xFF:
            return None
        marker = stream[at + 1]
        if marker in _SOF:
            return int.from_bytes(stream[at + 7 : at + 9], "big"), int.from_bytes(
                stream[at + 5 : at + 7], "big"
            )
        if marker == 0xFF:
            at += 1
        elif marker in _BARE:
            at += 2
        else:
            at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None
