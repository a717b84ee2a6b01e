"""Parse and check a DICOM data set: needed elements, modality, transfer syntax, length, frames.

Patient data: only the elements in `_NEEDED`, in `_MEMBERSHIP` and those a setting names are parsed into the
data set at all, and no reason quotes a value.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from config.extras import package_hint
from trainer.images.formats.dicom_codestream import check_codestream
from trainer.images.picture import Limits, PictureError, ReadFailure, refuse
from trainer.images.silence import silence_loggers

if TYPE_CHECKING:
    from pydicom import Dataset


_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_NEEDED = (
    "SOPClassUID",
    "Modality",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "PixelAspectRatio",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "PaletteColorLookupTableUID",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    *_PIXELS,
)
# What an object is a part of, and where in it.
_MEMBERSHIP = (
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "IssuerOfPatientID",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
)
# Modalities that a reason may name (PS3.16 CID 29 and 33); any other text in that field could be anything.
_MODALITIES = frozenset(
    """AR ASMT AU BDUS BI BMD CR CT CTPROTOCOL DG DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL
    IVOCT IVUS KER KO LEN LS MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PLAN PR PT PX REG RESP
    RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SC SEG SM SMR SR SRF STAIN
    TEXTUREMAP TG US VA XA XC""".split()  # noqa: SIM905 - seventy quoted codes are no easier to read
)
_DEFLATED = b"1.2.840.10008.1.2.1.99"
# Decoders to take where several are installed: pylibjpeg-libjpeg does not return from some broken streams
# (found by fuzzing).
_STEADIER = {
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "imagecodecs",  # JPEG extended, 12 bits
    "1.2.840.10008.1.2.4.57": "imagecodecs",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "imagecodecs",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81": "pyjpegls",  # JPEG-LS near-lossless
}
# What brings the decoder of a transfer syntax; pydicom itself decodes the others that are compressed.
_PACKAGES = {
    **_STEADIER,
    **{f"1.2.840.10008.1.2.4.{number}": "pylibjpeg-openjpeg" for number in (90, 91, 201, 202, 203)},
}


class _Stream(io.BytesIO):
    """Bytes that remember whether someone asked for more than there were."""

    came_short = False

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > len(self.getbuffer()):
            self.came_short = True
        got = super().read(size)
        if size is not None and 0 < len(got) < size:
            self.came_short = True
        return got


def read_dataset(data: bytes, limits: Limits) -> Dataset:
    """Parse the elements that are needed, and check them.

    Raises PictureError for what has no picture, another modality, an unknown compression or too few pixels;
    otherwise whatever pydicom raises.
    """
    from pydicom import dcmread
    from pydicom.datadict import tag_for_keyword

    silence_loggers("pydicom", "pylibjpeg")

    _check_deflated(data, limits)
    keywords = dict.fromkeys((*_NEEDED, *_MEMBERSHIP, *limits.tags))
    tags = [tag for tag in map(tag_for_keyword, keywords) if tag is not None]
    stream = _Stream(data)
    dataset = dcmread(stream, specific_tags=list(tags), force=True)
    has_pixels = any(keyword in dataset for keyword in _PIXELS)
    if not has_pixels and "Rows" not in dataset:
        raise _without_a_picture(dataset, stream.came_short)
    _check_modality(dataset, limits)
    if not has_pixels:
        raise PictureError(ReadFailure.INCOMPLETE, "a DICOM file that ends before its pixels do")
    for keyword in ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation"):
        if not dataset.get(keyword):
            refuse(f"a DICOM object without {keyword}")
    limits.check_size(int(dataset.Columns), int(dataset.Rows))
    _check_transfer_syntax(dataset)
    _check_length(dataset)
    return dataset


def _check_modality(dataset: Dataset, limits: Limits) -> None:
    modality = str(dataset.get("Modality", "") or "")
    if modality == "MR" or limits.any_modality:
        return
    name = f"of modality {modality}" if modality in _MODALITIES else "of no known modality"
    refuse(f"a DICOM object {name}, only MR is judged; pass --any-modality to judge it")


def _without_a_picture(dataset: Dataset, is_cut: bool) -> PictureError:
    from pydicom.uid import UID

    uid = UID(str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""))
    if not uid and dataset.preamble is None:  # nothing but two bytes of it looks like DICOM
        return PictureError(ReadFailure.PERMANENT, "not an image of a known format")
    if is_cut:
        return PictureError(ReadFailure.INCOMPLETE, "a truncated DICOM file")
    name = uid.name if uid and uid.name != uid else "of an unknown class"
    return PictureError(ReadFailure.PERMANENT, f"a DICOM object without a picture ({name})")


def _check_deflated(data: bytes, limits: Limits) -> None:
    """Refuse a deflated data set that inflates beyond the limit; pydicom inflates without one."""
    if _DEFLATED not in data[132:2048]:
        return
    if data[132:140] != b"\2\0\0\0UL\4\0":  # the group's length comes first (PS3.10, 7.1)
        refuse("a deflated DICOM file without a group length")
    start = 144 + int.from_bytes(data[140:144], "little")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    rest, size = data[start:], 0
    while rest and not inflater.eof:
        size += len(inflater.decompress(rest, 1 << 24))
        rest = inflater.unconsumed_tail
        if size > limits.max_bytes:
            refuse(f"a deflated DICOM file that inflates beyond the limit of {limits.max_bytes} bytes")
    if not inflater.eof:
        raise PictureError(ReadFailure.INCOMPLETE, "a truncated DICOM file")


def _check_transfer_syntax(dataset: Dataset) -> None:
    """Refuse a compression that no installed plugin decodes, and name what is missing."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    from trainer.images.formats import dicom_jpeg

    dicom_jpeg.register()
    if "TransferSyntaxUID" not in dataset.file_meta:  # a file without meta information
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    uid = dataset.file_meta.TransferSyntaxUID
    name = uid.name if uid.name != uid else "an unknown transfer syntax"
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        refuse(f"DICOM pixels in {name} cannot be decoded")
    if uid.is_encapsulated and not decoder.is_available:
        package = _PACKAGES.get(str(uid), "")
        refuse(f"DICOM pixels in {name} need the package {package} ({package_hint(package)})")


def _check_length(dataset: Dataset) -> None:
    """Raise INCOMPLETE if uncompressed pixels are fewer than the header says."""
    from pydicom.pixels.utils import get_expected_length

    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    for keyword in _PIXELS:
        if keyword in dataset and len(dataset[keyword].value or b"") < get_expected_length(dataset):
            raise PictureError(ReadFailure.INCOMPLETE, "a DICOM file that ends before its pixels do")


def frame_count(dataset: Dataset) -> int:
    """Return how many frames a data set announces, at least one."""
    return max(1, int(dataset.get("NumberOfFrames") or 1))


def read_frames(dataset: Dataset, wanted: Sequence[int], limits: Limits) -> Any:
    """Return an iterator of the wanted frames, (rows, columns) or (rows, columns, 3), as stored."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.utils import iter_pixels

    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        extended = None
        if "ExtendedOffsetTable" in dataset:
            extended = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
        for number in wanted:
            stream = get_frame(
                dataset.PixelData,
                number,
                number_of_frames=frame_count(dataset),
                extended_offsets=extended,
            )
            check_codestream(stream, limits)
    return iter_pixels(dataset, indices=list(wanted), decoding_plugin=_plugin(dataset))


def _plugin(dataset: Dataset) -> str:
    """Return the plugin to decode with, "" to leave the choice to pydicom."""
    from pydicom.pixels.decoders.base import get_decoder

    uid = dataset.file_meta.TransferSyntaxUID
    plugin = _STEADIER.get(str(uid), "")
    return plugin if plugin and plugin in get_decoder(uid).available_plugins else ""
