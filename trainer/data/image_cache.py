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


def _from_cache(path: Path, count: int) -> Decoded | None:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            hashes, reasons = stored["hashes"].tolist(), stored["reasons"].tolist()
        pictures = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return (pictures, hashes, reasons) if len(pictures) == len(hashes) == count else None


def _to_cache(path: Path, pictures: Grey, hashes: list[str], reasons: list[str]) -> None:
    """Keep the pictures for the next run; a cache that cannot be written costs time, nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path.with_suffix(".npy"), lambda stream: np.save(stream, pictures))
        _write_whole(
            path, lambda stream: np.savez(stream, hashes=np.array(hashes), reasons=np.array(reasons))
        )
    except OSError:
        return


def _write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        write(stream)
    temporary.replace(path)
