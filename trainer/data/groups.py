"""Group images that belong together: the same bytes, nearly the same picture, the same patient.

Images of one group must not stand on both sides of a split, or a network is tested on what it has
seen. Near-duplicates are found by a 256-bit difference hash, and confirmed by the correlation of
small thumbnails, so that two different slices of one look are not taken for twins.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from config.errors import UsageError
from config.text import printable
from trainer.images.arrays import Floats, Grey, Ints

# Measured on public collections: twins saved again, scaled or windowed lie within this many bits of
# 256; larger values join different slices of the same look.
MAX_BITS = 14
MIN_CORRELATION = 0.95
# A chain of pairs may join pictures that are far apart; beyond this size a group is split into its
# exact duplicates again.
MAX_GROUP = 60
_THUMBNAIL = 32
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of near-duplicates: indices of images, first <= second."""

    first: Ints
    second: Ints


def near_duplicates(pictures: Grey) -> Pairs:
    """Return all pairs of near-duplicates among pictures (n, S, S) uint8."""
    bits, thumbnails = _fingerprints(pictures)
    first: list[Ints] = []
    second: list[Ints] = []
    for start in range(0, len(bits), _BLOCK):
        block = bits[start : start + _BLOCK]
        # (block, n, 4) words would be large; four (block, n) sums are not.
        away = sum(
            np.bitwise_count(block[:, None, word] ^ bits[None, start:, word]).astype(np.uint16)
            for word in range(4)
        )
        rows, columns = np.nonzero(np.asarray(away) <= MAX_BITS)
        rows, columns = rows + start, columns + start
        ahead = rows < columns
        rows, columns = rows[ahead], columns[ahead]
        alike = (thumbnails[rows] * thumbnails[columns]).sum(axis=1) > MIN_CORRELATION
        first.append(rows[alike])
        second.append(columns[alike])
    return Pairs(np.concatenate(first).astype(np.int64), np.concatenate(second).astype(np.int64))


def group_ids(
    hashes: Sequence[str], pairs: Pairs | None = None, patients: Sequence[str] | None = None
) -> Ints:
    """Return a group number (n,) for each image: equal bytes, joined pairs and equal patients share one."""
    count = len(hashes)
    groups = exact = _components(count, _equal(hashes))
    if pairs is not None:
        joined = _components(count, _equal(hashes), pairs)
        too_large = np.bincount(joined)[joined] > MAX_GROUP
        groups = np.where(too_large, exact + count, joined)
    if patients is not None:
        groups = _components(count, _equal([str(group) for group in groups]), _equal(patients))
    return _numbered(groups)


def read_patients(path: Path, names: Sequence[str]) -> list[str]:
    """Return the patient of each image from a CSV with the columns file and patient; '' if not listed.

    `file` is the path below the folder that holds the roots, as in `tcga-lgg/yes/x.jpg`.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            if not {"file", "patient"} <= set(reader.fieldnames or ()):
                raise UsageError(
                    f"the groups file {printable(str(path))} lacks the columns file and patient",
                    hint="its first line must read file,patient",
                )
            known = {row["file"]: row["patient"] or "" for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read the groups file {printable(str(path))}: {error}") from error
    return [known.get(name, "") for name in names]


def _fingerprints(
    pictures: Grey,
) -> tuple[npt.NDArray[np.uint64], Floats]:
    """Return 256 bits as (n, 4) uint64 and normalised thumbnails (n, 1024) float32."""
    bits = np.empty((len(pictures), 4), dtype=np.uint64)
    thumbnails = np.empty((len(pictures), _THUMBNAIL * _THUMBNAIL), dtype=np.float32)
    for number, picture in enumerate(pictures):
        image = Image.fromarray(picture)
        coarse = np.asarray(image.resize((17, 16), Image.Resampling.BOX)).astype(np.int16)
        bits[number] = np.packbits(coarse[:, 1:] > coarse[:, :-1]).view(np.uint64)
        small = (
            np.asarray(image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX))
            .astype(np.float32)
            .ravel()
        )
        small -= small.mean()
        thumbnails[number] = small / (np.linalg.norm(small) + 1e-6)
    return bits, thumbnails


def _equal(keys: Sequence[str]) -> Pairs:
    """Return pairs that join all images with the same key; an empty key joins nothing."""
    _, first, inverse = np.unique(np.asarray(keys), return_index=True, return_inverse=True)
    keyed = np.flatnonzero(np.array([bool(key) for key in keys], dtype=bool))
    return Pairs(first[inverse][keyed].astype(np.int64), keyed.astype(np.int64))


def _components(count: int, *joined: Pairs) -> Ints:
    """Return the number (count,) of each image's connected component."""
    first = np.concatenate([pairs.first for pairs in joined])
    second = np.concatenate([pairs.second for pairs in joined])
    graph = coo_matrix((np.ones(len(first), dtype=bool), (first, second)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _numbered(groups: Ints) -> Ints:
    """Return the groups numbered in the order of their first images."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)
