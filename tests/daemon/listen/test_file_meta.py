"""The head of a received file, and the comparison of request and data set."""

from __future__ import annotations

import io
import zlib

import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from daemon.listen.file_meta import Announced, check_data_set, file_head
from daemon.listen.refusals import (
    CANNOT_UNDERSTAND,
    DOES_NOT_MATCH,
    INVALID_INSTANCE,
    StoreRefusedError,
)
from tests.support.dicom_objects import MR_IMAGE

INSTANCE = "1.2.3.4"
SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


def _encoded(syntax: str, sop_class: str = MR_IMAGE, instance: str = INSTANCE) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.PatientName = sop_class, instance, "Somebody"
    stream = DicomBytesIO()
    stream.is_implicit_VR = syntax == ImplicitVRLittleEndian
    stream.is_little_endian = syntax != ExplicitVRBigEndian
    write_dataset(stream, dataset)
    if syntax != DeflatedExplicitVRLittleEndian:
        return stream.getvalue()
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(stream.getvalue()) + deflater.flush()


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_head_and_data_set_are_a_dicom_file(syntax: str) -> None:
    announced = Announced(MR_IMAGE, INSTANCE, syntax)
    data = _encoded(syntax)

    check_data_set(data, announced)
    found = dcmread(io.BytesIO(file_head(announced) + data))

    assert found.file_meta.TransferSyntaxUID == syntax
    assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID == INSTANCE
    assert found.PatientName == "Somebody"


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("sop_class", "instance"), [(MR_IMAGE, "1.2.3.5"), ("1.2.840.10008.5.1.4.1.1.2", INSTANCE)]
)
def test_another_class_or_instance_than_was_said_does_not_match(
    syntax: str, sop_class: str, instance: str
) -> None:
    with pytest.raises(StoreRefusedError) as caught:
        check_data_set(_encoded(syntax, sop_class, instance), Announced(MR_IMAGE, INSTANCE, syntax))

    assert caught.value.status == DOES_NOT_MATCH


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("data", [b"", b"\xff" * 500, b"Somebody wrote a text" * 40, b"\0" * 64])
def test_what_is_no_data_set_is_not_understood_and_never_quoted(syntax: str, data: bytes) -> None:
    with pytest.raises(StoreRefusedError) as caught:
        check_data_set(data, Announced(MR_IMAGE, INSTANCE, syntax))

    assert caught.value.status == CANNOT_UNDERSTAND
    assert "Somebody" not in str(caught.value)


@pytest.mark.parametrize("uid", ["", "../../etc/passwd", "1.2.3\n", "1." * 40, "Somebody", "1..2", "٣.٤"])
def test_what_is_no_uid_is_refused(uid: str) -> None:
    with pytest.raises(StoreRefusedError) as caught:
        file_head(Announced(MR_IMAGE, uid, ExplicitVRLittleEndian))

    assert caught.value.status == INVALID_INSTANCE


def test_a_data_set_that_inflates_without_end_is_looked_at_no_further_than_its_head() -> None:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = (
        deflater.compress(_encoded(ExplicitVRLittleEndian))
        + deflater.compress(bytes(1 << 26))
        + deflater.flush()
    )

    check_data_set(bomb[: 64 << 10], Announced(MR_IMAGE, INSTANCE, DeflatedExplicitVRLittleEndian))
