"""Cache of decoded images, by the content of their files and the preprocessing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np

from trainer.images.arrays import Grey

Decoded = tuple[Grey, list[str], list[str]]


def _from_cache(place: Path, count: int) -> Decoded | None:
    try:
        with place.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            hashes, reasons = stored["hashes"].tolist(), stored["reasons"].tolist()
        pictures = np.load(place.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return (pictures, hashes, reasons) if len(pictures) == len(hashes) == count else None


def _to_cache(place: Path, pictures: Grey, hashes: list[str], reasons: list[str]) -> None:
    """Keep the pictures for the next run; a cache that cannot be written costs time, nothing else."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(place.with_suffix(".npy"), lambda stream: np.save(stream, pictures))
        _write_whole(
            place, lambda stream: np.savez(stream, hashes=np.array(hashes), reasons=np.array(reasons))
        )
    except OSError:
        return


def _write_whole(place: Path, write: Callable[[BinaryIO], None]) -> None:
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        write(stream)
    temporary.replace(place)
