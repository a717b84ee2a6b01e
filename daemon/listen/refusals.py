"""Refuse a C-STORE request: a status of the standard, and words that hold nothing of the object."""

from __future__ import annotations

import errno
import os

# PS3.4, table B.2-1; PS3.7, annex C.
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
INVALID_INSTANCE = 0x0117

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class StoreRefusedError(Exception):
    """An object that is not taken: `status` goes to the sender, `why` to him and into the log."""

    def __init__(self, status: int, why: str) -> None:
        """`why` is at most 64 characters, the length of an Error Comment (0000,0902)."""
        super().__init__(why)
        self.status = status
        self.why = why[:64]


def refusal_of(error: OSError) -> StoreRefusedError:
    """Return the refusal for what the file system answered: the sender may try again later."""
    if error.errno in _FULL:
        return StoreRefusedError(OUT_OF_RESOURCES, "no room left in the inbox")
    words = os.strerror(error.errno) if error.errno else type(error).__name__
    return StoreRefusedError(OUT_OF_RESOURCES, f"the inbox cannot be written: {words}")
