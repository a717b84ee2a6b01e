"""Near-duplicate grouping: the same bytes, nearly the same picture or its mirror image, the same patient.

Images of one group must not stand on both sides of a split, or a network is tested on what it has
seen. Near-duplicates are found by a 256-bit difference hash (of the picture, and of it mirrored left to
right, as public collections are augmented), and confirmed by the correlation of small thumbnails, so
that two different slices of one look are not taken for twins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from trainer.images.arrays import Bools, Floats, Grey, Ints

# Measured on public collections: twins saved again, scaled or windowed lie within this many bits of
# 256; larger values join different slices of the same look.
MAX_BITS = 14
MIN_CORRELATION = 0.95
# A mirrored copy with other tones lies further away, but its thumbnail agrees: of a collection of 5,677 with
# mirrored copies 2,913 have such a twin by these two limits (2,436 by those above), and up to 16 looked at in
# each band are twins; collections without mirrored copies gain none to eight pairs of thousands.
MAX_MIRRORED_BITS = 24
MIN_MIRRORED_CORRELATION = 0.98
# A chain of pairs may join pictures that are far apart; beyond this size only closer and closer pairs
# hold a group together.
MAX_GROUP = 60
_CLOSER_BITS = (14, 10, 7, 4, 2)
_THUMBNAIL = 32
_WORDS = 4  # of 64 bits in a hash
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of near-duplicates, all of the same length: indices of images, first <= second."""

    first: Ints
    second: Ints
    bits: Ints  # of 256, that differ
    mirrored: Bools  # the second is nearer to the first's mirror image than to the first


def near_duplicates(pictures: Grey) -> Pairs:
    """Return all pairs of near-duplicates, mirrored ones too, among pictures (n, S, S[, 3]) uint8."""
    seen, mirror = _fingerprints(pictures), _fingerprints(pictures[:, :, ::-1])
    near = ((MAX_BITS, MIN_CORRELATION),)
    mirrored_near = (*near, (MAX_MIRRORED_BITS, MIN_MIRRORED_CORRELATION))
    plain, mirrored = _close_pairs(seen, seen, near), _close_pairs(mirror, seen, mirrored_near)
    first, second, bits = (np.concatenate(both) for both in zip(plain, mirrored, strict=True))
    by_mirror: Bools = np.arange(len(first)) >= len(plain[0])
    # A symmetric head is near both to its twin and to the twin's mirror image: one pair, the nearer.
    order = np.lexsort((by_mirror, bits, second, first))
    first, second, bits, by_mirror = first[order], second[order], bits[order], by_mirror[order]
    new = np.ones(len(first), dtype=bool)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return Pairs(first[new], second[new], bits[new], by_mirror[new])


def _close_pairs(
    left: _Fingerprints, right: _Fingerprints, limits: Sequence[tuple[int, float]]
) -> tuple[Ints, Ints, Ints]:
    """Return first < second and the bits between the first in `left` and the second in `right`.

    Each limit is a largest number of bits and a smallest correlation; one of them is enough.
    """
    furthest = max(bits for bits, _ in limits)
    first: list[Ints] = []
    second: list[Ints] = []
    bits: list[Ints] = []
    for start in range(0, len(left.bits), _BLOCK):
        block = left.bits[start : start + _BLOCK]
        # (block, n, 4) words would be large; four (block, n) sums are not.
        away = np.zeros((len(block), len(right.bits) - start), dtype=np.uint16)
        for word in range(_WORDS):
            away += np.bitwise_count(block[:, None, word] ^ right.bits[None, start:, word])
        rows, columns = np.nonzero(away <= furthest)
        ahead = rows < columns
        rows, columns = rows[ahead], columns[ahead]
        alike = np.einsum("ij,ij->i", left.thumbnails[rows + start], right.thumbnails[columns + start])
        apart = away[rows, columns]
        kept = np.any([(apart <= most) & (alike > least) for most, least in limits], axis=0)
        rows, columns = rows[kept], columns[kept]
        first.append(rows + start)
        second.append(columns + start)
        bits.append(apart[kept].astype(np.int64))
    return np.concatenate(first), np.concatenate(second), np.concatenate(bits)


def group_ids(
    hashes: Sequence[str], pairs: Pairs | None = None, patients: Sequence[str] | None = None
) -> Ints:
    """Return a group number (n,) for each image: equal bytes, joined pairs and equal patients share one.

    A group of pairs that is larger than MAX_GROUP is divided again by its closest pairs alone, in the end
    into equal bytes.
    """
    count, same = len(hashes), _equal(hashes)
    groups = _components(count, same)
    if pairs is not None:
        exact = groups
        groups = _components(count, same, (pairs.first, pairs.second))
        for bits in _CLOSER_BITS:
            if not (large := np.bincount(groups)[groups] > MAX_GROUP).any():
                break
            kept = ~large[pairs.first] | (pairs.bits <= bits)
            groups = _components(count, same, (pairs.first[kept], pairs.second[kept]))
        groups = np.where(np.bincount(groups)[groups] > MAX_GROUP, exact + count, groups)
    if patients is not None:
        groups = _components(count, _equal([str(group) for group in groups]), _equal(patients))
    return _numbered(groups)


@dataclass(frozen=True, slots=True)
class _Fingerprints:
    """Difference hashes, 256 bits as (n, 4) uint64, and normalised thumbnails (n, 1024[ * 3]) float32."""

    bits: npt.NDArray[np.uint64]
    thumbnails: Floats


def _fingerprints(pictures: Grey) -> _Fingerprints:
    bits = np.empty((len(pictures), _WORDS), dtype=np.uint64)
    colours = pictures.shape[3] if pictures.ndim == 4 else 1
    thumbnails = np.empty((len(pictures), _THUMBNAIL * _THUMBNAIL * colours), dtype=np.float32)
    for number, picture in enumerate(pictures):
        image = Image.fromarray(picture)
        coarse = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX)).astype(np.int16)
        bits[number] = np.packbits(coarse[:, 1:] > coarse[:, :-1]).view(np.uint64)
        small = (
            np.asarray(image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX))
            .astype(np.float32)
            .ravel()
        )
        small -= small.mean()
        thumbnails[number] = small / (np.linalg.norm(small) + 1e-6)
    return _Fingerprints(bits, thumbnails)


def _equal(keys: Sequence[str]) -> tuple[Ints, Ints]:
    """Return pairs that join all images with the same key; an empty key joins nothing."""
    _, first, inverse = np.unique(np.asarray(keys), return_index=True, return_inverse=True)
    keyed = np.flatnonzero(np.array([bool(key) for key in keys], dtype=bool))
    return first[inverse][keyed].astype(np.int64), keyed.astype(np.int64)


def _components(count: int, *joined: tuple[Ints, Ints]) -> Ints:
    """Return the number (count,) of each image's connected component."""
    first = np.concatenate([pairs[0] for pairs in joined])
    second = np.concatenate([pairs[1] for pairs in joined])
    graph = coo_matrix((np.ones(len(first), dtype=bool), (first, second)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _numbered(groups: Ints) -> Ints:
    """Return the groups numbered in the order of their first images."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)
