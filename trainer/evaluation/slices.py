"""Series of slices, and blocks of neighbours in them, with what a network said of each slice."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from config.errors import UsageError
from config.text import printable
from trainer.data.memberships import ImageMembership, read_memberships, slices_by_series
from trainer.images.arrays import Bools, Doubles, Ints

FEWEST_PATIENTS = 2  # with a tumour, and without, for anything to be said
_FEWEST_SLICES = 3
_BLOCK = 8  # neighbouring slices
_BLOCK_TUMOURS = 3  # so many of a block's slices show a tumour, or none does


@dataclass(frozen=True, slots=True)
class Slices:
    """Slices of one series, or of a part of it, in their order."""

    patient: str
    scores: Doubles  # (n,), the probability of the positive class
    tumours: Bools  # (n,), whether a slice shows a tumour
    has_tumour: bool  # whether any does, of those without a vote too
    rejected: bool = False  # every slice lies beyond the distance limit

    def part(self, places: slice) -> Slices:
        """Return some neighbours of them."""
        tumours = self.tumours[places]
        return Slices(self.patient, self.scores[places], tumours, bool(tumours.any()))


@dataclass(frozen=True, slots=True)
class Parts:
    """Whole series, and the blocks of neighbours in them that a rule is to hold on as well."""

    members: tuple[Slices, ...]
    is_block: Bools  # (n,)

    @classmethod
    def of(cls, series: Sequence[Slices]) -> Parts:
        """Return the series with their blocks; without blocks where not both kinds of two patients each."""
        blocks = [block for one in series for block in _blocks(one)]
        if min(patients_by_kind(blocks)) < FEWEST_PATIENTS:
            blocks = []
        return cls((*series, *blocks), np.arange(len(series) + len(blocks)) >= len(series))

    @property
    def truth(self) -> Bools:
        """Whether each shows a tumour (n,)."""
        return np.array([one.has_tumour for one in self.members], dtype=bool)

    @property
    def patients(self) -> Ints:
        """The number (n,) of each one's patient."""
        return patient_numbers([one.patient for one in self.members])

    @property
    def weights(self) -> Doubles:
        """Weights (n,), in all 1, by which series and blocks with and without a tumour count the same."""
        return patient_weights(self.truth + 2 * self.is_block, self.patients)


def patients_by_kind(parts: Sequence[Slices]) -> tuple[int, int]:
    """Return of how many patients there are parts with a tumour, and without."""
    with_tumour, without = (
        {one.patient for one in parts if one.has_tumour == kind} for kind in (True, False)
    )
    return len(with_tumour), len(without)


def patient_numbers(names: Sequence[str]) -> Ints:
    """Return a number (n,) for each name, the same for the same."""
    return np.unique(np.asarray(names), return_inverse=True)[1].reshape(-1).astype(np.int64)


def patient_weights(strata: Ints, patients: Ints) -> Doubles:
    """Return weights (n,), in all 1: every stratum counts the same, and within it every patient."""
    pairs, member_of, counts = np.unique(
        np.stack((strata, patients), axis=1), axis=0, return_inverse=True, return_counts=True
    )
    _, stratum_of, patients_in = np.unique(pairs[:, 0], return_inverse=True, return_counts=True)
    of_pair = 1 / (counts * patients_in[stratum_of] * len(patients_in))
    return np.asarray(of_pair[member_of.reshape(-1)], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class JudgedSlices:
    """What is known of images and what a network said of them, all of the same length."""

    memberships: Sequence[ImageMembership]
    scores: Doubles  # (n,), the probability of the positive class
    tumours: Bools  # (n,)
    inside: Bools  # (n,), within the distance limit

    def series(self) -> list[Slices]:
        """Return the series of at least three slices.

        Slices that were rejected have no vote, unless all were.
        """
        found = slices_by_series(self.memberships).values()
        return [self._series(np.array(places)) for places in found if len(places) >= _FEWEST_SLICES]

    def _series(self, places: Ints) -> Slices:
        patient = self.memberships[int(places[0])].patient
        rejected = not self.inside[places].any()
        voting = places if rejected else places[self.inside[places]]
        has_tumour = bool(self.tumours[places].any())
        return Slices(patient, self.scores[voting], self.tumours[voting], has_tumour, rejected)


def _blocks(series: Slices) -> list[Slices]:
    """Return the blocks of eight neighbours of a series with a tumour, overlapping by half.

    Those that show little of it, in one or two slices, are left out.
    """
    if not series.has_tumour:
        return []
    starts = range(0, len(series.scores) - _BLOCK + 1, _BLOCK // 2)
    blocks = [series.part(slice(start, start + _BLOCK)) for start in starts]
    return [one for one in blocks if not 0 < one.tumours.sum() < _BLOCK_TUMOURS]


def read_predictions(predictions: Path, groups: Path | None, positive: str) -> JudgedSlices:
    """Return what the predictions.csv of sources left out, or of folds, holds.

    Patients and series are those that it names, or those of a groups file. Raises UsageError for another
    file, and for one without patients where there is no groups file.
    """
    column, shown = f"p_{positive}", printable(str(predictions))
    try:
        with predictions.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            reader = csv.DictReader(stream)
            names = set(reader.fieldnames or ())
            if not {"file", "label", "inside", column} <= names:
                raise UsageError(
                    f"{shown} lacks the columns file, label, inside, {column}",
                    hint="give the predictions.csv of bt-train --leave-source-out",
                )
            rows = list({row["file"]: row for row in reader}.values())  # two rounds may judge an image
        scores = np.array([float(row[column]) for row in rows])
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, TypeError) as error:
        raise UsageError(f"cannot read {shown}: {error}") from error
    if groups is not None:
        memberships = read_memberships(groups, [row["file"] for row in rows])
    elif {"patient", "series", "position"} <= names:
        memberships = [
            ImageMembership(row["patient"], row["series"], float(row["position"] or 0)) for row in rows
        ]
    else:
        raise UsageError(f"{shown} names no patients", hint="give --groups FILE (file,patient)")
    return JudgedSlices(
        memberships,
        scores,
        np.array([row["label"] == positive for row in rows], dtype=bool),
        np.array([row["inside"] == "1" for row in rows], dtype=bool),
    )
