"""Split images into training and validation: whole groups, stratified, by a seed."""

from __future__ import annotations

import numpy as np

from trainer.images.arrays import Ints


def split(labels: Ints, groups: Ints, sources: Ints, share: float, seed: int) -> tuple[Ints, Ints]:
    """Return (training, validation) places; about `share` of every (source, label) goes to validation.

    A group stands on one side only. It counts where most of its images are.
    """
    part = folds(labels, groups, sources, max(2, round(1 / share)), seed)
    return part[0]


def folds(labels: Ints, groups: Ints, sources: Ints, count: int, seed: int) -> list[tuple[Ints, Ints]]:
    """Return `count` pairs of (training, validation) places; each image is validated exactly once.

    Greedy: the largest groups first, each to the fold that has the fewest images of its stratum.
    Not scikit-learn's StratifiedGroupKFold, which divides otherwise for the same seed: the commands in model
    cards would make other models than those that their figures are of.
    """
    strata = _strata(labels, sources)
    members = _members(groups)
    shuffled = np.random.default_rng(seed).permutation(len(members))
    order = sorted(shuffled.tolist(), key=lambda number: -len(members[number]))
    held = np.zeros((count, int(strata.max()) + 1), dtype=np.int64)
    fold_of = np.empty(len(labels), dtype=np.int64)
    for number in order:
        indices = members[number]
        stratum = int(np.bincount(strata[indices]).argmax())
        # The fold with the fewest of this stratum; among equals the one with the fewest images at all.
        fold = min(range(count), key=lambda part: (held[part, stratum], held[part].sum()))
        fold_of[indices] = fold
        held[fold] += np.bincount(strata[indices], minlength=held.shape[1])
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(count)]


def random_split(labels: Ints, share: float, seed: int) -> tuple[Ints, Ints]:
    """Return a stratified split that ignores groups: near-duplicates leak, and its scores are too good."""
    return split(labels, np.arange(len(labels)), np.zeros(len(labels), dtype=np.int64), share, seed)


def _strata(labels: Ints, sources: Ints) -> Ints:
    pairs = np.stack((sources, labels), axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _members(groups: Ints) -> list[Ints]:
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    return [np.asarray(part, dtype=np.int64) for part in np.split(order, starts)]
