"""DICOM Structured Report of one series: a TID 1500 measurement report in a Comprehensive SR, of highdicom.

PS3.16 TID 1500 "Measurement Report" holds one TID 1501 group: the algorithm (TID 4019), class and status as
qualitative evaluations, the score as a measurement, the objects judged, the slice with the highest score.
Comprehensive SR (PS3.3 A.35.3) may hold it, and archives have long taken that. UIDs are made of what is said
(PS3.5 B.2), so that the same answer about the same objects is the same report again.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from config.text import DISCLAIMER, printable
from config.when import local_zone
from daemon.exchange.judged_objects import JudgedObject, LeftOut, NoReportError
from daemon.version import DISTRIBUTION, program_version
from trainer.images.silence import silence_loggers

if TYPE_CHECKING:
    from highdicom.sr import (
        AlgorithmIdentification,
        CodedConcept,
        ComprehensiveSR,
        ImageContentItem,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
    )
    from pydicom import Dataset

    from storage.queries.series_rows import SeriesRow

_SCHEME = "99BTDAEMON"  # our own codes: private designators begin with 99 (PS3.16, 8.2)
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "bt-daemon.structured-report")
_LONGEST_MEANING = 64  # characters of an LO
_SERIES_NUMBER = 9000  # beyond what scanners count to
_STATUS_WORDS = {
    "ok": "Judged",
    "uncertain": "Uncertain: a person should look",
    "rejected": "Unlike the images the model was made for: no class",
}


@dataclass(frozen=True, slots=True)
class SeriesAccount:
    """What a report tells, besides the objects it is about."""

    answer: SeriesRow
    class_words: str  # of the class that was given, "" for none
    positive_words: str  # of the class that is looked for, "" for none
    decisive_frame: int | None  # from 1, in the decisive object; None: it has one frame
    complete: bool


def structured_report(account: SeriesAccount, objects: Sequence[JudgedObject]) -> ComprehensiveSR:
    """Return the report of a series; raise NoReportError if its objects' headers do not allow one.

    It carries the patient's and the study's identifiers, as they stand in the objects.
    """
    silence_loggers("highdicom", "pydicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote values
        try:
            return _report(account, objects)
        except (AttributeError, LookupError, TypeError, ValueError):
            # What a header holds is anybody's; what exactly is wrong may quote it.
            raise NoReportError(LeftOut.UNIDENTIFIED) from None


def _report(account: SeriesAccount, objects: Sequence[JudgedObject]) -> ComprehensiveSR:
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import ComprehensiveSR

    answer, first = account.answer, objects[0].header
    # In local time, as the study's times are: an SR without an offset says nothing else.
    judged = datetime.fromtimestamp(answer.touched_us / 1_000_000, local_zone())
    if first.PatientSex not in ("", "M", "F", "O"):
        first.PatientSex = ""
    return ComprehensiveSR(
        evidence=[one.header for one in objects],
        content=_content(account, objects),
        series_instance_uid=_uid(first.StudyInstanceUID, answer.weights_sha256),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=_uid(*_said(account, objects)),
        instance_number=max(1, int(first.get("SeriesNumber") or 1)),
        manufacturer=DISTRIBUTION,
        is_complete=account.complete,
        is_final=False,
        is_verified=False,
        manufacturer_model_name=_short(f"{answer.model} {answer.model_version}"),
        software_versions=program_version(),
        device_serial_number=answer.weights_sha256[:16],
        series_description="bt-daemon: research use only, unverified",
        content_date=judged.date(),
        content_time=judged.time(),
        specific_character_set="ISO_IR 192",
        coding_schemes=[
            CodingSchemeIdentificationItem(_SCHEME, name=DISTRIBUTION, responsible_organization=DISTRIBUTION)
        ],
    )


def _content(account: SeriesAccount, objects: Sequence[JudgedObject]) -> Dataset:
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
        RelationshipTypeValues,
        TextContentItem,
    )
    from pydicom.sr.codedict import codes

    answer = account.answer
    observer = DeviceObserverIdentifyingAttributes(
        uid=_uid(answer.weights_sha256),
        name=DISTRIBUTION,
        model_name=printable(f"{answer.model} {answer.model_version}"),
        serial_number=answer.weights_sha256,
    )
    context = ObservationContext(
        observer_device_context=ObserverContext(codes.DCM.Device, observer_identifying_attributes=observer)
    )
    report = MeasurementReport(
        observation_context=context,
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[_group(account, objects)],
    )
    root: Dataset = report[0]
    warning = TextContentItem(
        codes.DCM.Comment, DISCLAIMER, relationship_type=RelationshipTypeValues.CONTAINS
    )
    root.ContentSequence.insert(len(root.ContentSequence) - 1, warning)  # above what was measured
    return root


def _group(account: SeriesAccount, objects: Sequence[JudgedObject]) -> MeasurementsAndQualitativeEvaluations:
    from highdicom.sr import (
        FindingSite,
        MeasurementsAndQualitativeEvaluations,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes

    answer = account.answer
    series = objects[0].header.SeriesInstanceUID
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=_uid(series, answer.weights_sha256), identifier=printable(f"{answer.model}: whole series")
        ),
        algorithm_id=_algorithm(answer),
        finding_sites=[FindingSite(codes.SCT.Brain)],
        measurements=_measurements(account),
        qualitative_evaluations=_evaluations(account),
        source_images=[
            SourceImageForMeasurementGroup(one.header.SOPClassUID, one.header.SOPInstanceUID)
            for one in objects
        ],
    )
    group[0].ContentSequence.extend(_decisive(account, objects))
    return group


def _decisive(account: SeriesAccount, objects: Sequence[JudgedObject]) -> list[ImageContentItem]:
    from highdicom.sr import ImageContentItem, RelationshipTypeValues

    frame = account.decisive_frame
    return [
        ImageContentItem(
            _code("decisive", "Slice with the highest score"),
            one.header.SOPClassUID,
            one.header.SOPInstanceUID,
            referenced_frame_numbers=None if frame is None else [frame],
            relationship_type=RelationshipTypeValues.CONTAINS,
        )
        for one in objects
        if one.file_id == account.answer.decisive_file_id
    ]


def _algorithm(answer: SeriesRow) -> AlgorithmIdentification:
    from highdicom.sr import AlgorithmIdentification

    parameters = [f"weights sha256 {answer.weights_sha256}"]
    if answer.positive is not None and answer.threshold is not None:
        parameters.append(f"class {printable(answer.positive)} from score {answer.threshold:.6g}")
    if answer.uncertain_low is not None and answer.uncertain_high is not None:
        parameters.append(f"uncertain from {answer.uncertain_low:.6g} to {answer.uncertain_high:.6g}")
    return AlgorithmIdentification(
        name=printable(answer.model),
        version=printable(answer.model_version),
        parameters=parameters,
        manufacturer=DISTRIBUTION,
    )


def _evaluations(account: SeriesAccount) -> list[QualitativeEvaluation]:
    from highdicom.sr import QualitativeEvaluation

    answer = account.answer
    status = answer.status.value
    found = [QualitativeEvaluation(_code("status", "Status"), _code(status, _STATUS_WORDS[status]))]
    if answer.label is not None:
        found.insert(
            0, QualitativeEvaluation(_code("class", "Class"), _code(answer.label, account.class_words))
        )
    return found


def _measurements(account: SeriesAccount) -> list[Measurement]:
    from highdicom.sr import CodedConcept, Measurement
    from pydicom.sr.codedict import codes

    answer = account.answer
    found = []
    if answer.score is not None:
        whose = account.positive_words or "the likeliest class"
        name = _code("score", f"Calibrated probability of {whose}")
        found.append(Measurement(name, round(answer.score, 6), codes.UCUM.NoUnits))
    if answer.threshold is not None:
        whose = account.positive_words or "the class"
        name = _code("threshold", f"Probability from which on it is called {whose}")
        found.append(Measurement(name, round(answer.threshold, 6), codes.UCUM.NoUnits))
    slices = CodedConcept("{slices}", "UCUM", "slices")
    found.append(Measurement(_code("slices", "Slices judged"), answer.slices, slices))
    words = "Slices rejected: unlike what the model was made for"
    found.append(Measurement(_code("rejected", words), answer.rejected, slices))
    return found


def _said(account: SeriesAccount, objects: Sequence[JudgedObject]) -> list[str]:
    """Return what makes one report another than the next."""
    answer = account.answer
    told = (answer.status.value, answer.label, answer.score, answer.slices, answer.rejected, account.complete)
    return [
        answer.weights_sha256,
        program_version(),
        repr(told),
        *sorted(str(one.header.SOPInstanceUID) for one in objects),
    ]


def _uid(*parts: str) -> str:
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, parts))).int}"


def _code(value: str, meaning: str) -> CodedConcept:
    from highdicom.sr import CodedConcept

    return CodedConcept(printable(value), _SCHEME, _short(printable(meaning) or printable(value)))


def _short(text: str) -> str:
    return text[:_LONGEST_MEANING]
