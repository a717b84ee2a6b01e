"""Votes of slices as bytes: how many slices say what, eight bytes for each thing that is said."""

from __future__ import annotations

import struct
from collections.abc import Mapping

_ENTRY = struct.Struct("<II")
# What a slice that was rejected says; the votes of a series rule stay below.
_REJECTED = 0xFFFF_FFFF


def encoded(votes: Mapping[int, int], rejected: int = 0) -> bytes:
    """Return votes (vote, below 2**32 - 1, -> how many slices cast it) and how many slices were rejected."""
    entries = [*sorted(votes.items()), *([(_REJECTED, rejected)] if rejected else [])]
    return b"".join(_ENTRY.pack(vote, count) for vote, count in entries)


def decoded(data: bytes) -> tuple[dict[int, int], int]:
    """Return what `encoded` was given: the votes, and how many slices were rejected."""
    votes = dict(_ENTRY.iter_unpack(data))
    return votes, votes.pop(_REJECTED, 0)
