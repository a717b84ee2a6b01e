"""Pictures as plain numbers for a viewer, 8, 16 or 24 bits a pixel, with facts; checked where they arrive."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

Fact = int | float | bool | None | tuple[float, ...]

MOST_SIDE = 1024  # pixels
_MOST_FACTS_BYTES = 4096
_MOST_NUMBERS = 4  # in one fact


@dataclass(frozen=True, slots=True)
class RawPicture:
    """Pixels row by row, little-endian; `facts` has at least width, height and bits (8, 16, or 24: RGB)."""

    facts: dict[str, Fact]
    pixels: bytes


def encode_raw(picture: RawPicture) -> bytes:
    """Return a picture as plain bytes: what a decoder was made to say is data, never run."""
    facts = json.dumps(picture.facts).encode()
    return b"R" + len(facts).to_bytes(4, "big") + facts + picture.pixels


def decode_raw(data: bytes) -> RawPicture:
    """Return what `encode_raw` was given; raise ValueError for what is no such thing."""
    length = int.from_bytes(data[1:5], "big")
    if data[:1] != b"R" or length > _MOST_FACTS_BYTES:
        raise ValueError("the drawing process said what it never says")
    told = json.loads(data[5 : 5 + length])
    if not isinstance(told, dict) or not all(isinstance(name, str) for name in told):
        raise ValueError("facts about a picture are named")
    facts = {name: _fact(value) for name, value in told.items()}
    width, height, bits = (facts.get(name) for name in ("width", "height", "bits"))
    if not (_is_side(width) and _is_side(height) and bits in (8, 16, 24)):
        raise ValueError("a picture of no size that was asked for")
    pixels = data[5 + length :]
    assert isinstance(width, int)
    assert isinstance(height, int)
    assert isinstance(bits, int)
    if len(pixels) != width * height * bits // 8:
        raise ValueError("more or fewer pixels than were announced")
    return RawPicture(facts, pixels)


def _is_side(value: Fact) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_SIDE


def _fact(value: object) -> Fact:
    """Return a number, a truth, a few numbers, or None; raise ValueError for anything else."""
    if isinstance(value, list) and len(value) <= _MOST_NUMBERS:
        return tuple(_number(one) for one in value)
    if value is None or isinstance(value, bool):
        return value
    return _number(value)


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a fact that is no number")
    return value
