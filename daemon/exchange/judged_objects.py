"""Headers of the DICOM objects that a series was judged from, read from the very files, without pixels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from daemon.store.source_reader import read_judged_source
from trainer.images.formats.sniff import is_bare_dicom
from trainer.images.picture import Limits, PictureError
from trainer.images.read import JudgedFile
from trainer.images.silence import silence_loggers

if TYPE_CHECKING:
    from pydicom import Dataset

# What a report about an image cannot do without.
_REQUIRED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_ONE_FOR_ALL = ("StudyInstanceUID", "PatientID", "IssuerOfPatientID")
# Patient and study (PS3.3 C.7.1.1, C.7.2.1): these are there in every object, if only empty.
_EMPTY_IF_MISSING = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName"),
)


class LeftOut(StrEnum):
    """Why there is no report of a series, in words for a count of them."""

    GONE = "whose files are gone or have changed"
    OTHER_FORMAT = "that are not DICOM"
    UNIDENTIFIED = "whose objects lack identifiers or belong to several studies"


class NoReportError(Exception):
    """There can be no report of a series."""

    def __init__(self, why: LeftOut) -> None:
        super().__init__(why.value)
        self.why = why


@dataclass(frozen=True, slots=True)
class JudgedObject:
    """One object and the file version it came from."""

    file_id: int
    header: Dataset  # everything but the pixels, patient data too


def judged_objects(files: Iterable[tuple[int, JudgedFile]], limits: Limits) -> list[JudgedObject]:
    """Return the objects of one series, of files by their ids; raise NoReportError if one cannot be had.

    Each file is read whole and its hash compared with that of the bytes that were judged.
    """
    found = [JudgedObject(file_id, _header(file, limits)) for file_id, file in files]
    if not found:
        raise NoReportError(LeftOut.GONE)
    for keyword in _ONE_FOR_ALL:
        if len({str(one.header.get(keyword) or "") for one in found}) > 1:
            raise NoReportError(LeftOut.UNIDENTIFIED)
    return found


def _header(file: JudgedFile, limits: Limits) -> Dataset:
    from pydicom import dcmread

    try:
        data = read_judged_source(file, limits).data
    except PictureError:
        raise NoReportError(LeftOut.GONE) from None
    if data[128:132] != b"DICM" and not is_bare_dicom(data):
        raise NoReportError(LeftOut.OTHER_FORMAT)
    silence_loggers("pydicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        header = dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
        if any(not header.get(keyword) for keyword in _REQUIRED):
            raise NoReportError(LeftOut.UNIDENTIFIED)
    for keyword in _EMPTY_IF_MISSING:
        if keyword not in header:
            setattr(header, keyword, "")
    return header
