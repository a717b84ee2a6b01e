"""Tell medical formats, and archives, by a file's first bytes, without their libraries."""

from __future__ import annotations

from typing import Literal

# The archives that images are sent in. A gzip file may be a NIfTI volume.
_ARCHIVES = (
    (b"PK\3\4", "ZIP"),
    (b"PK\5\6", "ZIP"),  # an empty one
    (b"PK\7\b", "ZIP"),  # one of several volumes
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!\x1a\7", "RAR"),
    (b"\xfd7zXZ\0", "XZ"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
)
_TAR = slice(257, 262)  # of the first 512 bytes, "ustar"
# Value representations of the elements that open a data set (PS3.5, table 6.2-1).
_FIRST_VRS = frozenset({b"UL", b"UI", b"CS", b"SH", b"DA", b"TM", b"LO", b"DT", b"PN", b"ST", b"OB"})


def why_archive(data: bytes) -> str:
    """Return the reason why an archive is not judged, "" for anything else; 512 bytes are enough.

    It is not opened: a row is about one file that can be read, moved and shown again by its name.
    """
    name = next((name for magic, name in _ARCHIVES if data.startswith(magic)), "")
    name = name or ("tar" if data[_TAR] == b"ustar" else "")
    return f"a {name} archive, not an image; unpack it into the inbox" if name else ""


def is_nifti(data: bytes) -> bool:
    """Return whether the bytes start with the header of a NIfTI-1 or NIfTI-2 file, or a NIfTI-1 pair's."""
    if data[344:348] in (b"n+1\0", b"ni1\0"):
        return data[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c")  # sizeof_hdr 348
    return data[4:12] in (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n") and data[:4] in (
        b"\x1c\2\0\0",
        b"\0\0\2\x1c",
    )  # sizeof_hdr 540


def is_bare_dicom(data: bytes) -> bool:
    """Return whether the bytes are a plausible DICOM data set without preamble and `DICM`.

    Such files start with an element of group 2 or 8. Explicit value representations are told by
    their two letters, implicit ones by a first length that is small and even.
    """
    if len(data) < 16:
        return False
    order: Literal["little", "big"]
    if data[:2] in (b"\2\0", b"\x08\0"):
        order = "little"
    elif data[:2] in (b"\0\2", b"\0\x08"):
        order = "big"
    else:
        return False
    if data[4:6] in _FIRST_VRS:
        return True
    element = int.from_bytes(data[2:4], order)
    length = int.from_bytes(data[4:8], order)
    return order == "little" and element <= 0x60 and length <= 256 and length % 2 == 0
