"""Picture, the result of reading an image file, and PictureError, which says why not and whether to wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import Settings

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn, Protocol

from config.text import printable

if TYPE_CHECKING:
    from PIL import Image

    from trainer.images.arrays import Array

_LONGEST_REASON = 200  # characters: a reason is one line in a table


class ReadFailure(StrEnum):
    """What can be done about a file that gave no picture; the words are the ledger's."""

    TRANSIENT = "transient"  # busy, permission, I/O: try again later
    INCOMPLETE = "incomplete"  # empty or truncated: wait until it changes
    PERMANENT = "permanent"  # not an image, over a limit, broken
    CHANGED = "changed"  # the file changed while it was read
    GONE = "gone"  # deleted before it was read


class PictureError(Exception):
    """A file that gave no picture: `kind` says what to do next, `reason` says why in one line.

    The reason holds neither patient data nor control characters.
    """

    def __init__(self, kind: ReadFailure, reason: str) -> None:
        """Keep the reason as one safe line of bounded length."""
        self.kind = kind
        self.reason = printable(" ".join(reason.split()))[:_LONGEST_REASON]
        super().__init__(kind, self.reason)

    def __str__(self) -> str:
        return self.reason


def refuse(reason: str) -> NoReturn:
    """Raise the PictureError of a file that will never be a picture."""
    raise PictureError(ReadFailure.PERMANENT, reason)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one file may cost, and what is accepted; every field is a setting."""

    # A multi-frame DICOM or an uncompressed 4-D NIfTI has some hundred MB; the file is held in memory.
    max_bytes: int = 512 << 20
    # 8192 x 8192: above a film scan (20 million) and a 50-megapixel photograph, below the smallest
    # bomb of 10,000 x 10,000; at Pillow's four bytes a pixel it takes 256 MiB to decode.
    max_pixels: int = 64 << 20
    # Slices judged per volume, evenly spaced: one in three of a 1 mm head, closer than a 1 cm lesion needs.
    max_slices: int = 64
    any_modality: bool = False  # accept DICOM objects of other modalities than MR
    tags: tuple[str, ...] = ()  # DICOM keywords to hand back with the picture; none otherwise

    def check_size(self, width: int, height: int) -> None:
        """Refuse a picture of that many pixels before it is decoded."""
        if width < 1 or height < 1:
            refuse(f"{width} x {height} pixels: an empty picture")
        if width * height > self.max_pixels:
            refuse(f"{width} x {height} pixels: more than the limit of {self.max_pixels / 1e6:.0f} million")


@dataclass(frozen=True, slots=True)
class Slice:
    """One picture to judge."""

    index: int  # place in the file, counted from 0
    image: Image.Image  # mode L, orientation applied, perhaps reduced


@dataclass(frozen=True, slots=True)
class Membership:
    """What a file says it is a part of: patient data, which is hashed before it leaves the process."""

    series: str
    study: str = ""  # "": not said
    patient: str = ""
    position: float | None = None  # along the series, in mm where that is known


@dataclass(frozen=True, slots=True)
class Picture:
    """What a file shows: one slice for ordinary images, several for volumes."""

    format: str  # "JPEG", "PNG", ..., "DICOM", "NIfTI"
    width: int  # pixels of the original as it is shown, before any reduction
    height: int
    slices: tuple[Slice, ...]  # those worth judging
    slice_count: int = 1  # how many the file has
    tags: dict[str, str] = field(default_factory=dict)  # the DICOM tags that were asked for
    membership: Membership | None = None  # None: the file itself does not say


@dataclass(frozen=True, slots=True)
class Tones:
    """One slice with the numbers that its file gives, for people who set the window themselves."""

    values: Array  # (height, width): as stored and rescaled; of colours their luma, 0..255
    low: float  # what `decode` makes black
    high: float  # and white
    picture: Image.Image  # the same slice as `decode` makes it, mode L, not reduced
    inverted: bool = False  # low numbers are bright
    ratio: float = 1.0  # how many times as high as wide a pixel is
    spacing: tuple[float, float] | None = None  # mm between rows and between columns, where it is said


class Stack(Protocol):
    """An image file whose slices are decoded one at a time, when they are asked for."""

    count: int  # slices in the file

    def tones(self, number: int) -> Tones:
        """Return one of the slices, counted from 0."""


def limits_of(settings: Settings) -> Limits:
    """Return how much one file may cost the reader."""
    return Limits(
        max_bytes=settings.max_bytes,
        max_pixels=settings.max_pixels,
        max_slices=settings.max_slices,
        any_modality=settings.any_modality,
        tags=settings.tags,
    )
