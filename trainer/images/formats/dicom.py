"""Decode DICOM to grey slices: modality LUT, VOI window, 8 bits, MONOCHROME1 inverted last.

Steps and their order are those of PS3.3 C.7.6.3 and C.11 and PS3.4 N.2. Without a usable window the
picture is stretched between two percentiles (`trainer.images.grayscale`). Of a multi-frame object the frames
that `trainer.images.volume` chooses are decoded, one at a time.

Patient data: only the elements in `_NEEDED` and those a setting names are parsed into the data set
at all, and no reason quotes a value.
"""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from config.text import printable
from trainer.images.arrays import Array, Grey
from trainer.images.aspect import stretched
from trainer.images.formats.dicom_codestream import check_codestream
from trainer.images.grayscale import to_8_bits, windowed
from trainer.images.picture import Limits, Picture, PictureError, ReadFailure, Slice, refuse
from trainer.images.reduction import reduction
from trainer.images.silence import silence_loggers
from trainer.images.volume import evenly_spaced, sample, with_head

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
_LONGEST_TAG = 128  # characters kept of a tag's value


def decode_dicom(data: bytes, limits: Limits, image_size: int) -> Picture:
    """Return the picture of a DICOM object; raise PictureError or whatever pydicom raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        dataset = _read(data, limits)
        _check_transfer_syntax(dataset)
        _check_length(dataset)
        frames = _frame_count(dataset)
        width, height = int(dataset.Columns), int(dataset.Rows)
        wanted = evenly_spaced(range(frames), limits, width * height)
        slices, samples = [], []
        for number, pixels in zip(wanted, _frames(dataset, wanted, limits), strict=True):
            picture = _square_pixels(Image.fromarray(_grey(pixels, dataset, number)), dataset, number)
            samples.append(
                sample(np.asarray(picture) if pixels.ndim == 3 else _rescaled(pixels, dataset, number))
            )
            factor = reduction(picture.width, picture.height, image_size)
            slices.append(Slice(number, picture.reduce(factor) if factor > 1 else picture))
        shown = tuple(slices[place] for place in with_head(samples))
        return Picture("DICOM", width, height, shown, frames, _tags(dataset, limits.tags))


# --- the data set ---


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


def _read(data: bytes, limits: Limits) -> Dataset:
    """Parse the elements that are needed; refuse what has no picture or another modality."""
    from pydicom import dcmread
    from pydicom.datadict import tag_for_keyword

    silence_loggers("pydicom", "pylibjpeg")

    _check_deflated(data, limits)
    keywords = dict.fromkeys((*_NEEDED, *limits.tags))
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
        refuse(f"DICOM pixels in {name} need the package {package} (pip install {package})")


def _check_length(dataset: Dataset) -> None:
    """Raise INCOMPLETE if uncompressed pixels are fewer than the header says."""
    from pydicom.pixels.utils import get_expected_length

    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    for keyword in _PIXELS:
        if keyword in dataset and len(dataset[keyword].value or b"") < get_expected_length(dataset):
            raise PictureError(ReadFailure.INCOMPLETE, "a DICOM file that ends before its pixels do")


def _frame_count(dataset: Dataset) -> int:
    return max(1, int(dataset.get("NumberOfFrames") or 1))


def _frames(dataset: Dataset, wanted: Sequence[int], limits: Limits) -> Any:
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
                number_of_frames=_frame_count(dataset),
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


# --- the pixels of one frame ---


def _grey(pixels: Array, dataset: Dataset, number: int) -> Grey:
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if photometric == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        pixels = apply_color_lut(pixels, dataset)
        return _luma(pixels, 8 * pixels.dtype.itemsize)
    if pixels.ndim == 3:
        return _luma(pixels, int(dataset.BitsStored))
    padding = _padding(pixels, dataset)
    shown = _shown(
        _rescaled(pixels, dataset, number), _functional(dataset, number, "FrameVOILUTSequence"), padding
    )
    if photometric == "MONOCHROME1":
        shown = 255 - shown
    if padding is not None:
        shown[padding] = 0
    return shown


def _luma(colours: Array, bits: int) -> Grey:
    """Return the luma (ITU-R BT.601) of RGB (rows, columns, 3) of that many bits."""
    if bits != 8:
        colours = windowed(colours, 0, (1 << bits) - 1)
    return np.array(Image.fromarray(np.ascontiguousarray(colours, dtype=np.uint8)).convert("L"))


def _rescaled(pixels: Array, dataset: Dataset, number: int) -> Array:
    """Apply the modality LUT, or slope and intercept (PS3.3 C.11.1)."""
    from pydicom.pixels.processing import apply_modality_lut

    where = _functional(dataset, number, "PixelValueTransformationSequence")
    rescaled: Array = apply_modality_lut(pixels, where)
    return rescaled


def _shown(values: Array, where: Dataset, padding: Array | None) -> Grey:
    """Apply the VOI LUT or the first window (PS3.3 C.11.2), percentiles where neither is usable."""
    if where.get("VOILUTSequence"):
        from pydicom.pixels.processing import apply_voi

        table = where.VOILUTSequence[0]
        bits = int(table.LUTDescriptor[2])
        shown = windowed(apply_voi(np.rint(values).astype(np.int64), where), 0, (1 << bits) - 1)
    else:
        window = _window(where)
        shown = to_8_bits(values, padding) if window is None else _through(values, *window)
    if shown.min() == shown.max() and values.min() < values.max():
        return to_8_bits(values, padding)  # a window that misses the picture
    return shown


def _window(where: Dataset) -> tuple[float, float, str] | None:
    try:
        centre, width = (float(_first(where.get(name))) for name in ("WindowCenter", "WindowWidth"))
    except (TypeError, ValueError):
        return None
    function = str(where.get("VOILUTFunction") or "LINEAR")
    if (
        not np.isfinite(centre)
        or not np.isfinite(width)
        or width < 1e-9
        or (function == "LINEAR" and width < 1)
    ):
        return None
    return centre, width, function


def _through(values: Array, centre: float, width: float, function: str) -> Grey:
    if function == "SIGMOID":  # PS3.3 C.11.2.1.3.1
        exponent = np.clip(-4.0 * (values - centre) / width, -50.0, 50.0)
        return windowed(1.0 / (1.0 + np.exp(exponent)), 0, 1)
    if function == "LINEAR_EXACT":  # PS3.3 C.11.2.1.3.2
        return windowed(values, centre - width / 2, centre + width / 2)
    low = centre - 0.5 - (width - 1) / 2  # PS3.3 C.11.2.1.2.1
    return windowed(values, low, low + max(width - 1, 1e-3))


def _padding(pixels: Array, dataset: Dataset) -> Array | None:
    """Return where the frame holds padding (PS3.3 C.7.5.1.1.2), None if it cannot."""
    value = _stored_number(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = _stored_number(dataset, "PixelPaddingRangeLimit")
    low, high = min(value, value if limit is None else limit), max(value, value if limit is None else limit)
    padding: Array = (pixels >= low) & (pixels <= high)
    return None if padding.all() else padding


def _stored_number(dataset: Dataset, keyword: str) -> int | None:
    value = _first(dataset.get(keyword))
    if isinstance(value, bytes):  # implicit VR leaves open whether it is signed
        value = int.from_bytes(value, "little", signed=bool(dataset.get("PixelRepresentation")))
    return int(value) if isinstance(value, int) else None


def _functional(dataset: Dataset, number: int, group: str) -> Dataset:
    """Return the data set that holds a functional group of one frame (PS3.3 C.7.6.16), else the object."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for item in (*per_frame[number : number + 1], *shared[:1]):
        found = item.get(group)
        if found:
            return found[0]  # type: ignore[no-any-return]
    return dataset


def _square_pixels(picture: Image.Image, dataset: Dataset, number: int) -> Image.Image:
    """Stretch the shorter side of a picture whose pixels are not square (spacing: rows, then columns)."""
    where = _functional(dataset, number, "PixelMeasuresSequence")
    try:
        down, across = (float(part) for part in where.get("PixelSpacing") or dataset.get("PixelAspectRatio"))
        ratio = down / across
    except (TypeError, ValueError, ZeroDivisionError):
        return picture
    return stretched(picture, ratio)


def _tags(dataset: Dataset, keywords: Sequence[str]) -> dict[str, str]:
    found = {}
    for keyword in keywords:
        value = dataset.get(keyword)
        if value is None or value == "" or isinstance(value, bytes):
            continue
        parts = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
        found[keyword] = printable("\\".join(str(part).strip() for part in parts))[:_LONGEST_TAG]
    return found


def _first(value: Any) -> Any:
    """Return the first of several values, or the value."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        return value
    return value[0] if len(value) else None
