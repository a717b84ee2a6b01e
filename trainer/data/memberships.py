"""Memberships of images: the patient and the series that each is of, by a groups file or by DICOM's tags.

What tags say is patient data: where a file is read it becomes a pseudonym (keyed BLAKE2b) whose key is
this user's own, in the cache folder; reports and tables number patients and series instead.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from config.errors import UsageError
from config.text import printable
from trainer.images.picture import Membership

_KEY_BYTES = 32
_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")
# What de-identification leaves in PatientID: everybody's, so nobody's.
_NOBODY = frozenset({"", "0", "anon", "anonymous", "anonymised", "anonymized", "none", "patient", "unknown"})


@dataclass(frozen=True, slots=True)
class ImageMembership:
    """The patient and the series of an image, as a groups file names them or as pseudonyms."""

    patient: str = ""  # "": not known
    series: str = ""  # "": not known, or an image that stands alone
    position: float | None = None  # along the series


def read_memberships(path: Path, names: Sequence[str]) -> list[ImageMembership]:
    """Return what a CSV with the columns file and patient says of each image; nothing of those not listed.

    `file` is the path below the folder that holds the roots, as in `tcga-lgg/yes/x.jpg`. With a column
    `series` (and perhaps `position`) that names the series; else a series are images of a patient whose names
    differ in their last number only. Raises UsageError for a file that is none.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            if not {"file", "patient"} <= set(reader.fieldnames or ()):
                raise UsageError(
                    f"the groups file {printable(str(path))} lacks the columns file and patient",
                    hint="its first line must read file,patient (or file,patient,series,position)",
                )
            known = {row["file"]: row for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read the groups file {printable(str(path))}: {error}") from error
    return [_listed(name, known[name]) if name in known else ImageMembership() for name in names]


def _listed(name: str, row: Mapping[str, str | None]) -> ImageMembership:
    patient, stem = row["patient"] or "", Path(name).stem
    if not patient:
        return ImageMembership()
    number = _LAST_NUMBER.search(stem)
    series = row.get("series") if "series" in row else number and _LAST_NUMBER.sub("#", stem)
    if not series:
        return ImageMembership(patient)
    position = _number(row.get("position") or "")
    if position is None and number is not None:
        position = float(number.group())
    return ImageMembership(patient, f"{patient}\0{series}", position)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def merged(
    listed: Sequence[ImageMembership], tagged: Sequence[ImageMembership]
) -> tuple[ImageMembership, ...]:
    """Return what a groups file says of each image, and what its tags say where the file is silent."""
    return tuple(own if own.patient else other for own, other in zip(listed, tagged, strict=True))


def pseudonym_key(cache: Path) -> bytes:
    """Return this user's key, made on first use; one of this run alone where nothing can be kept."""
    place = cache / "pseudonym.key"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(secrets.token_bytes(_KEY_BYTES))
        except FileExistsError:
            pass
        key = place.read_bytes()
    except OSError:
        key = b""
    return key if len(key) == _KEY_BYTES else secrets.token_bytes(_KEY_BYTES)


def pseudonymous(membership: Membership | None, key: bytes) -> ImageMembership:
    """Return what a file says it is a part of, with pseudonyms in place of its identifiers.

    Where it names no patient (or one of the words that de-identification leaves) the study stands for one.
    """
    if membership is None:
        return ImageMembership()
    patient = membership.patient
    if patient.rpartition("/")[2].strip().casefold() in _NOBODY:
        patient = membership.study or membership.series
    return ImageMembership(
        _pseudonym(key, b"patient", patient),
        _pseudonym(key, b"series", membership.series),
        membership.position,
    )


def _pseudonym(key: bytes, kind: bytes, identifier: str) -> str:
    text = identifier.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, key=key, digest_size=16, person=kind).hexdigest()


def numbered(memberships: Sequence[ImageMembership]) -> list[tuple[str, str, str]]:
    """Return the numbers of each image's patient and series, and of it within the series, for a table.

    From 1, in the order of the images; "" for what is not known.
    """
    patients = {
        name: n for n, name in enumerate(dict.fromkeys(one.patient for one in memberships if one.patient), 1)
    }
    series = slices_by_series(memberships)
    places: dict[int, tuple[str, str]] = {}
    for number, indices in enumerate(series.values(), 1):
        places |= {index: (str(number), str(place)) for place, index in enumerate(indices, 1)}
    return [
        (str(patients.get(one.patient, "")), *places.get(index, ("", "")))
        for index, one in enumerate(memberships)
    ]


def slices_by_series(memberships: Sequence[ImageMembership]) -> dict[str, list[int]]:
    """Return the places of the images of each series, along it."""
    found: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(memberships):
        if one.series:
            found[one.series].append(index)
    return {
        name: sorted(indices, key=lambda index: memberships[index].position or 0.0)
        for name, indices in found.items()
    }
