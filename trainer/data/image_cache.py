"""Cache of decoded images, by the content of their files and the preprocessing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np

from trainer.data.memberships import ImageMembership
from trainer.images.arrays import Grey


@dataclass(slots=True)
class Decoded:
    """Decoded images and what is known of each, all of the same length."""

    pictures: Grey  # (n, S, S)
    hashes: list[str]  # sha256 of the files, hex; "" of those that could not be read
    reasons: list[str]  # why an image is missing, "" if it is not
    memberships: list[ImageMembership]  # by the tags of the files


def _from_cache(path: Path, count: int) -> Decoded | None:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            hashes, reasons = stored["hashes"].tolist(), stored["reasons"].tolist()
            memberships = [
                ImageMembership(patient, series, None if position != position else position)  # noqa: PLR0124 - nan
                for patient, series, position in zip(
                    stored["patients"].tolist(),
                    stored["series"].tolist(),
                    stored["positions"].tolist(),
                    strict=True,
                )
            ]
        pictures = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    if not len(pictures) == len(hashes) == len(memberships) == count:
        return None
    return Decoded(pictures, hashes, reasons, memberships)


def _to_cache(path: Path, decoded: Decoded) -> None:
    """Keep the pictures for the next run; a cache that cannot be written costs time, nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path.with_suffix(".npy"), lambda stream: np.save(stream, decoded.pictures))
        positions = [one.position for one in decoded.memberships]
        _write_whole(
            path,
            lambda stream: np.savez(
                stream,
                hashes=np.array(decoded.hashes),
                reasons=np.array(decoded.reasons),
                patients=np.array([one.patient for one in decoded.memberships]),
                series=np.array([one.series for one in decoded.memberships]),
                positions=np.array([np.nan if place is None else place for place in positions]),
            ),
        )
    except OSError:
        return


def _write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        write(stream)
    temporary.replace(path)
