"""Write the head of a DICOM file for a data set that came over the network, and compare the two.

The head (PS3.10, 7.1) is the same for the same object whoever sends it and whatever library receives it: the
file's name is a hash of its bytes.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import dataclass

from daemon.listen.refusals import CANNOT_UNDERSTAND, DOES_NOT_MATCH, INVALID_INSTANCE, StoreRefusedError

IMPLEMENTATION_CLASS_UID = "2.25.334385705933663444155942636214820906449"
IMPLEMENTATION_VERSION = "BT_DAEMON"
# What says of which class and instance a data set is stands at its beginning, in group 8.
HEAD_BYTES = 64 << 10
_SOP_INSTANCE = 0x00080018
# PS3.5, 9.1, but for leading zeros, which are met in practice.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class Announced:
    """What the request says of the data set that follows it: UIDs."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str


def file_head(announced: Announced) -> bytes:
    """Return preamble and file meta information; raise StoreRefusedError for what is no UID."""
    for uid in (announced.sop_class, announced.sop_instance):
        if len(uid) > 64 or not _UID.fullmatch(uid):
            raise StoreRefusedError(INVALID_INSTANCE, "the SOP class or instance of the request is no UID")
    elements = b"".join(
        (
            b"\2\0\1\0OB\0\0\2\0\0\0\0\1",
            _element(0x0002, b"UI", announced.sop_class),
            _element(0x0003, b"UI", announced.sop_instance),
            _element(0x0010, b"UI", announced.transfer_syntax),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION),
        )
    )
    return bytes(128) + b"DICM\2\0\0\0UL\4\0" + struct.pack("<L", len(elements)) + elements


def check_data_set(head: bytes, announced: Announced) -> None:
    """Raise StoreRefusedError unless a data set is of the class and instance that its request says.

    `head` is its beginning, `HEAD_BYTES` of it. No reason quotes a value.
    """
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID

    syntax = UID(announced.transfer_syntax)
    try:
        if syntax.is_deflated:
            head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, HEAD_BYTES)
        found = read_dataset(
            io.BytesIO(head),
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            stop_when=lambda tag, _vr, _length: tag > _SOP_INSTANCE,
        )
        uids = (str(found["SOPClassUID"].value), str(found["SOPInstanceUID"].value))
    except Exception:  # noqa: BLE001 - pydicom raises anything, and its words quote values
        raise StoreRefusedError(
            CANNOT_UNDERSTAND, "no DICOM data set in the transfer syntax agreed on"
        ) from None
    if uids != (announced.sop_class, announced.sop_instance):
        raise StoreRefusedError(DOES_NOT_MATCH, "the data set is of another class or instance than was said")


def _element(number: int, representation: bytes, value: str) -> bytes:
    """Return an element of group 2, explicit little-endian, of even length (PS3.5, 7.1.2)."""
    text = value.encode("ascii")
    if len(text) % 2:
        text += b"\0" if representation == b"UI" else b" "
    return struct.pack("<HH2sH", 2, number, representation, len(text)) + text
