"""A DICOM slice in any photometric interpretation, depth and compression is the slice that a PNG would be."""

from __future__ import annotations

import io
import logging
import struct
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

import trainer.images.formats.dicom_dataset
from tests.support import dicom_codestreams
from tests.support.pictures import LIMITS, difference, encoded, head, network_input, picture_or_error, read
from trainer.images.decode import Limits, Picture, PictureError, ReadFailure

CANARY = "CANARY^PATIENT"
ANY = Limits(any_modality=True)


def dicom(pixels: np.ndarray, **elements: Any) -> Dataset:
    """Return an MR object with the pixels (rows, columns), (frames, rows, columns) or (rows, columns, 3)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = pydicom.uid.UID("1.2.3.4")
    dataset.PatientName = dataset.PatientID = dataset.InstitutionName = CANARY
    dataset.StudyDescription = dataset.SeriesDescription = dataset.ImageComments = CANARY
    dataset.Modality = "MR"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    if pixels.ndim == 3 and not colour:
        dataset.NumberOfFrames = len(pixels)
    dataset.Rows, dataset.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    if "BitsStored" in elements:
        dataset.HighBit = dataset.BitsStored - 1
    return dataset


def saved(dataset: Dataset, **options: Any) -> bytes:
    stream = io.BytesIO()
    options.setdefault("enforce_file_format", True)
    dataset.save_as(stream, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    return network_input(encoded(Image.fromarray(head()), "PNG"))


def signed(bits: int) -> np.ndarray:
    return (head().astype(np.int32) * ((1 << (bits - 9)) - 1 or 1) - (1 << (bits - 2))).astype(np.int16)


# --- depth and photometric interpretation ---


def by_plane() -> dict[str, Any]:
    return {"PlanarConfiguration": 1, "PixelData": np.stack([head()] * 3).tobytes()}


def ybr() -> np.ndarray:
    return np.stack([head(), np.full_like(head(), 128), np.full_like(head(), 128)], axis=-1)


def lut(values: np.ndarray, bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(values), 0, bits]
    item.LUTData = values.astype("<u2").tobytes()
    item.ModalityLUTType = "US"
    return item


def palette() -> Dataset:
    dataset = dicom(255 - head(), PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = ((255 - np.arange(256)) * 257).astype("<u2").tobytes()
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table)
    return dataset


def float_pixels() -> Dataset:
    dataset = dicom(head())
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated = 32
    dataset.FloatPixelData = (head() / np.float32(1e4)).astype("<f4").tobytes()
    return dataset


GREY = {
    "8 bit": lambda: dicom(head()),
    "10 bit": lambda: dicom(head().astype(np.uint16) * 4, BitsStored=10),
    "12 bit": lambda: dicom(head().astype(np.uint16) * 16, BitsStored=12),
    "16 bit": lambda: dicom(head().astype(np.uint16) * 257),
    "signed 12 bit": lambda: dicom(signed(12), BitsStored=12),
    "signed 16 bit": lambda: dicom(signed(16)),
    "16 bit, little of it used": lambda: dicom(head().astype(np.uint16) + 1000),
    "signed 8 bit": lambda: dicom((head().astype(np.int16) - 128).astype(np.int8)),
    "12 bit with a window": lambda: dicom(
        head().astype(np.uint16) * 16, BitsStored=12, WindowCenter=2040.5, WindowWidth=4081
    ),
    "rescaled": lambda: dicom(
        head().astype(np.uint16) * 8,
        RescaleSlope="0.25",
        RescaleIntercept="-100",
        WindowCenter=155,
        WindowWidth=511,
    ),
    "two windows": lambda: dicom(head(), WindowCenter=[127.5, 10], WindowWidth=[256, 3]),
    "exact window": lambda: dicom(head(), WindowCenter=127.5, WindowWidth=255, VOILUTFunction="LINEAR_EXACT"),
    "window that misses the picture": lambda: dicom(head(), WindowCenter=9000, WindowWidth=10),
    "window of no width": lambda: dicom(head(), WindowCenter=40, WindowWidth=0),
    "window that is no number": lambda: dicom(head(), WindowCenter=None, WindowWidth=400),
    "monochrome1": lambda: dicom(255 - head(), PhotometricInterpretation="MONOCHROME1"),
    "monochrome1, 12 bit, window": lambda: dicom(
        (255 - head()).astype(np.uint16) * 16,
        BitsStored=12,
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter=2040.5,
        WindowWidth=4081,
    ),
    "rgb": lambda: dicom(np.stack([head()] * 3, axis=-1)),
    "rgb by plane": lambda: dicom(np.stack([head()] * 3, axis=-1), **by_plane()),
    "rgb 16 bit": lambda: dicom(np.stack([head().astype(np.uint16) * 257] * 3, axis=-1)),
    "ybr": lambda: dicom(ybr(), PhotometricInterpretation="YBR_FULL"),
    "palette": palette,
    "modality lut": lambda: dicom(head(), ModalityLUTSequence=Sequence([lut(np.arange(256) * 3 + 7, 16)])),
    "voi lut": lambda: dicom(head(), VOILUTSequence=Sequence([lut(np.arange(256) * 16, 12)])),
    "float": float_pixels,
}


@pytest.mark.parametrize("kind", GREY)
def test_depth_and_photometric_interpretation_do_not_show(kind: str, reference: np.ndarray) -> None:
    seen = network_input(saved(GREY[kind]()))

    assert difference(seen, reference) < 1.0


WINDOWED = {
    name: make for name, make in GREY.items() if {"WindowCenter", "VOILUTSequence"} & set(make().dir())
}


@pytest.mark.parametrize("kind", WINDOWED)
def test_windows_of_other_modalities_are_applied(kind: str, reference: np.ndarray) -> None:
    dataset = WINDOWED[kind]()
    dataset.Modality = "CT"

    assert difference(network_input(saved(dataset), ANY), reference) < 1.0


def test_window_of_mr_is_not_applied(reference: np.ndarray) -> None:
    narrow = dicom(head().astype(np.uint16) * 16, BitsStored=12, WindowCenter=800, WindowWidth=100)

    assert difference(network_input(saved(narrow)), reference) < 1.0


def test_sigmoid_window_is_a_curve() -> None:
    dataset = dicom(head(), Modality="CT", WindowCenter=128, WindowWidth=256, VOILUTFunction="SIGMOID")

    (only,) = read(saved(dataset), ANY).slices

    expected = 255 / (1 + np.exp(-4 * (head().astype(float) - 128) / 256))
    assert np.abs(np.asarray(only.image) - expected).max() <= 0.51


def test_narrow_window_clips_as_the_standard_says() -> None:
    (only,) = read(saved(dicom(head(), Modality="CT", WindowCenter=100, WindowWidth=50)), ANY).slices

    values = head().astype(float)
    expected = np.clip(((values - 99.5) / 49 + 0.5) * 255, 0, 255)  # PS3.3 C.11.2.1.2.1
    assert np.abs(np.asarray(only.image) - expected).max() <= 0.51


def test_padding_is_black_and_does_not_count(reference: np.ndarray) -> None:
    values = head().astype(np.int16) * 8
    values[:, :8] = -2000
    dataset = dicom(values, PixelPaddingValue=-2000)

    (only,) = read(saved(dataset)).slices

    assert not np.asarray(only.image)[:, :8].any()
    assert difference(network_input(saved(dataset)), reference) < 1.0


def test_oblong_pixels_are_made_square(reference: np.ndarray) -> None:
    squeezed = np.asarray(Image.fromarray(head()).resize((260, 150), Image.Resampling.BOX))

    seen = network_input(saved(dicom(squeezed, PixelSpacing=[2.0, 1.0])))

    assert difference(seen, reference) < 6  # half of the rows are interpolated


# --- transfer syntaxes ---


def with_syntax(dataset: Dataset, uid: str, pixels: bytes) -> bytes:
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(uid)
    dataset.PixelData = encapsulate([pixels]) if pydicom.uid.UID(uid).is_encapsulated else pixels
    return saved(dataset)


def compressed(dataset: Dataset, uid: str, plugin: str) -> bytes:
    dataset.compress(uid, encoding_plugin=plugin, generate_instance_uid=False)
    return saved(dataset)


def big_endian() -> bytes:
    dataset = dicom(head().astype(np.uint16) * 16, BitsStored=12)
    dataset.PixelData = (head().astype(">u2") * 16).astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    return saved(dataset)


SYNTAXES = {
    "implicit": lambda: with_syntax(dicom(head()), ImplicitVRLittleEndian, head().tobytes()),
    "deflated": lambda: with_syntax(dicom(head()), DeflatedExplicitVRLittleEndian, head().tobytes()),
    "big endian": big_endian,
    "rle 8 bit": lambda: compressed(dicom(head()), RLELossless, "pydicom"),
    "rle 16 bit": lambda: compressed(dicom(head().astype(np.uint16) * 100), RLELossless, "pydicom"),
    "rle rgb": lambda: compressed(dicom(np.stack([head()] * 3, axis=-1)), RLELossless, "pydicom"),
    "jpeg-ls 8 bit": lambda: compressed(dicom(head()), JPEGLSLossless, "pyjpegls"),
    "jpeg-ls 12 bit": lambda: compressed(
        dicom(head().astype(np.uint16) * 16, BitsStored=12), JPEGLSLossless, "pyjpegls"
    ),
    "jpeg-ls rgb": lambda: compressed(dicom(np.stack([head()] * 3, axis=-1)), JPEGLSLossless, "pyjpegls"),
    "jpeg 2000 8 bit": lambda: compressed(dicom(head()), JPEG2000Lossless, "pylibjpeg"),
    "jpeg 2000 12 bit": lambda: compressed(
        dicom(head().astype(np.uint16) * 16, BitsStored=12), JPEG2000Lossless, "pylibjpeg"
    ),
    "jpeg 2000 signed": lambda: compressed(dicom(signed(12), BitsStored=12), JPEG2000Lossless, "pylibjpeg"),
    "jpeg baseline": lambda: with_syntax(
        dicom(head()), JPEGBaseline8Bit, encoded(Image.fromarray(head()), "JPEG", quality=98)
    ),
}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_transfer_syntax_does_not_show(syntax: str, reference: np.ndarray) -> None:
    assert difference(network_input(SYNTAXES[syntax]()), reference) < 1.0


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_object_cut_anywhere_is_incomplete_or_whole(syntax: str) -> None:
    data = SYNTAXES[syntax]()
    pixels = [part.image.tobytes() for part in read(data).slices]

    for share in (*range(8, 100, 6), 99.5):
        got = picture_or_error(data[: int(len(data) * share / 100)])
        if isinstance(got, PictureError):
            assert got.kind == ReadFailure.INCOMPLETE, (share, got.reason)
        else:
            assert [part.image.tobytes() for part in got.slices] == pixels, share


@pytest.mark.parametrize("encoding", [(True, True), (False, True), (False, False)])
def test_data_set_without_preamble_is_recognised(encoding: Any, reference: np.ndarray) -> None:
    implicit, little = encoding
    dataset = dicom(head())
    del dataset.file_meta
    stream = io.BytesIO()
    dataset.save_as(stream, implicit_vr=implicit, little_endian=little, enforce_file_format=False)

    assert difference(network_input(stream.getvalue()), reference) < 0.6


def test_tiff_header_in_the_preamble_does_not_mislead(reference: np.ndarray) -> None:
    dataset = dicom(head())
    dataset.preamble = b"II*\0" + struct.pack("<I", 64) + bytes(120)

    assert difference(network_input(saved(dataset)), reference) < 0.6


def test_missing_plugin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders.base import JPEGLSLosslessDecoder

    data = SYNTAXES["jpeg-ls 8 bit"]()
    monkeypatch.setattr(JPEGLSLosslessDecoder, "_available", {})
    monkeypatch.setattr(JPEGLSLosslessDecoder, "_unavailable", {"pyjpegls": ("numpy", "pyjpegls>=1.2")})

    got = picture_or_error(data)

    assert isinstance(got, PictureError)
    assert got.kind == ReadFailure.PERMANENT
    assert "JPEG-LS Lossless" in got.reason
    assert "pyjpegls" in got.reason


def test_video_is_refused_by_name() -> None:
    got = picture_or_error(with_syntax(dicom(head()), "1.2.840.10008.1.2.4.102", bytes(100)))

    assert isinstance(got, PictureError)
    assert "MPEG-4" in got.reason


FOREIGN = {
    "htj2k": (HTJ2KLossless, dicom_codestreams.HTJ2K_LOSSLESS, 0),
    "jpeg lossless": (JPEGLosslessSV1, dicom_codestreams.JPEG_LOSSLESS, 0),
    "jpeg extended, 12 bit": (JPEGExtended12Bit, dicom_codestreams.JPEG_EXTENDED_12_BIT, 40),
}


@pytest.mark.parametrize("syntax", FOREIGN)
def test_codestream_of_another_encoder_is_decoded(syntax: str) -> None:
    uid, stream, tolerance = FOREIGN[syntax]
    values = (head(64, 56) // 64 * 64).astype(np.uint16) * 16
    dataset = dicom(values, Modality="CT", BitsStored=12, WindowCenter=2048.5, WindowWidth=4097)

    (only,) = read(with_syntax(dataset, uid, stream), ANY).slices

    expected = values / 4096 * 255
    assert np.abs(np.asarray(only.image) - expected).max() <= 0.51 + tolerance / 16


@pytest.mark.defects(44)
@pytest.mark.parametrize("syntax", FOREIGN)
def test_every_compression_is_decoded_without_a_library_under_the_gpl(
    syntax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pylibjpeg-libjpeg may be installed or not: it is not needed."""
    uid, stream, _ = FOREIGN[syntax]
    monkeypatch.setitem(sys.modules, "libjpeg", None)
    values = (head(64, 56) // 64 * 64).astype(np.uint16) * 16
    seen: list[Any] = []
    find = trainer.images.formats.dicom_dataset._plugin

    def found(dataset: Any) -> Any:
        seen.append(find(dataset))
        return seen[-1]

    monkeypatch.setattr(trainer.images.formats.dicom_dataset, "_plugin", found)

    picture = read(with_syntax(dicom(values, BitsStored=12), uid, stream))

    assert len(picture.slices) == 1
    assert seen == ["" if uid == HTJ2KLossless else "imagecodecs"]  # "": pylibjpeg-openjpeg, the only one


@pytest.mark.defects(44)
@pytest.mark.parametrize("missing", [2, 16, 300, 900])
@pytest.mark.parametrize("syntax", ["jpeg lossless", "jpeg extended, 12 bit"])
def test_jpeg_stream_that_ends_early_is_not_filled_up_with_grey(syntax: str, missing: Any) -> None:
    uid, stream, _ = FOREIGN[syntax]
    dataset = dicom(head(64, 56).astype(np.uint16) * 16, BitsStored=12)

    got = picture_or_error(with_syntax(dataset, uid, stream[:-missing]))

    assert isinstance(got, PictureError)


@pytest.mark.defects(44)
def test_missing_package_for_lossless_jpeg_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders.base import JPEGLosslessSV1Decoder

    monkeypatch.setattr(JPEGLosslessSV1Decoder, "_available", {})
    monkeypatch.setattr(JPEGLosslessSV1Decoder, "_unavailable", {"imagecodecs": ("imagecodecs",)})
    dataset = dicom(head(64, 56).astype(np.uint16) * 16, BitsStored=12)

    got = picture_or_error(with_syntax(dataset, JPEGLosslessSV1, dicom_codestreams.JPEG_LOSSLESS))

    assert isinstance(got, PictureError)
    assert "JPEG Lossless" in got.reason
    assert got.reason.endswith("need the package imagecodecs (pip install 'bt-daemon[dicom]')")


# --- several frames ---


def test_frames_are_slices_and_empty_ones_are_not_judged() -> None:
    frames = np.stack([head() * 0, head(), head() // 2, head(), head() * 0])

    picture = read(saved(dicom(frames)))

    assert picture.slice_count == 5
    assert [part.index for part in picture.slices] == [1, 2, 3]


@pytest.mark.parametrize("uid", [RLELossless, JPEG2000Lossless])
def test_compressed_frames_are_evenly_spaced(uid: Any) -> None:
    small = head(64, 60)
    frames = np.stack([np.roll(small, shift, axis=1) for shift in range(20)])
    data = compressed(dicom(frames), uid, "pydicom" if uid == RLELossless else "pylibjpeg")

    picture = read(data, Limits(max_slices=5))

    assert [part.index for part in picture.slices] == [2, 6, 10, 14, 18]
    for part in picture.slices:
        assert np.array_equal(np.asarray(part.image) > 200, frames[part.index] > 200)


def test_window_of_each_frame_is_its_own(reference: np.ndarray) -> None:
    dataset = dicom(np.stack([head().astype(np.uint16) * 2, head().astype(np.uint16) * 16]))
    shared, per_frame = Dataset(), []
    transformation = Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = "2", "0"
    shared.PixelValueTransformationSequence = Sequence([transformation])
    for scale in (4, 32):
        window = Dataset()
        window.WindowCenter, window.WindowWidth = scale * 127.5 + 0.5, scale * 255 + 1
        item = Dataset()
        item.FrameVOILUTSequence = Sequence([window])
        per_frame.append(item)
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(per_frame)
    dataset.Modality = "CT"

    picture = read(saved(dataset), ANY)

    for part in picture.slices:
        assert np.abs(np.asarray(part.image).astype(int) - head()).max() <= 1


# --- what is refused ---


def reason(dataset: Dataset, limits: Limits = LIMITS) -> str:
    got = picture_or_error(saved(dataset, enforce_file_format=True), limits)
    assert isinstance(got, PictureError)
    assert got.kind == ReadFailure.PERMANENT
    assert "CANARY" not in got.reason
    return got.reason


def test_other_modality_needs_a_setting() -> None:
    dataset = dicom(head(), Modality="CT")

    assert "modality CT" in reason(dataset)
    assert "--any-modality" in reason(dataset)
    assert isinstance(picture_or_error(saved(dataset), ANY), Picture)


def test_text_in_the_modality_is_not_repeated() -> None:
    assert "modality" in reason(dicom(head(), Modality="CANARY"))


def test_object_without_pixels_is_named_by_its_class() -> None:
    dataset = dicom(head(), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(dataset, keyword)

    assert reason(dataset) == "a DICOM object without a picture (Basic Text SR Storage)"


def test_other_file_with_a_similar_beginning_is_not_called_dicom() -> None:
    got = picture_or_error(b"\x08\0\x05\0\x0a\0\0\0" + b"something else" * 9)

    assert isinstance(got, PictureError)
    assert got.reason == "not an image of a known format"


def test_bomb_in_the_header_is_refused() -> None:
    assert "60000 x 60000 pixels" in reason(dicom(head(), Rows=60000, Columns=60000))


def test_bomb_in_the_codestream_is_refused() -> None:
    """The header says 260 x 300, the JPEG 2000 or JPEG stream in it 60,000 x 60,000."""
    dataset = dicom(head())
    dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    at = dataset.PixelData.index(b"\xff\x4f\xff\x51")
    pixels = bytearray(dataset.PixelData)
    pixels[at + 8 : at + 16] = struct.pack(">II", 60000, 60000)
    dataset.PixelData = bytes(pixels)
    assert "60000 x 60000 pixels" in reason(dataset)

    jpeg = bytearray(encoded(Image.fromarray(head()), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 60000, 60000)
    dataset = dicom(head())
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([bytes(jpeg)])
    assert "60000 x 60000 pixels" in reason(dataset)


def test_box_without_a_length_does_not_hang() -> None:
    """Found by fuzzing: pydicom 3.0 looks at such a box for ever."""
    dataset = dicom(head())
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64)])

    assert "JPEG 2000" in reason(dataset)


def test_deflated_bomb_is_refused() -> None:
    dataset = dicom(np.zeros((4000, 4000), np.uint8))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    assert "inflates beyond the limit" in reason(dataset, Limits(max_bytes=1 << 20))


# --- patient data ---


def test_only_named_tags_are_returned() -> None:
    dataset = dicom(head(), StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4", InstanceNumber=7)
    dataset.AcquisitionDate = "20240229"
    names = ("StudyInstanceUID", "AcquisitionDate", "InstanceNumber", "SeriesNumber", "NoSuchKeyword")

    assert read(saved(dataset)).tags == {}
    assert read(saved(dataset), Limits(tags=names)).tags == {
        "StudyInstanceUID": "1.2.3",
        "AcquisitionDate": "20240229",
        "InstanceNumber": "7",
    }


def test_tag_text_is_safe_to_print() -> None:
    with pytest.warns(UserWarning, match="length"):
        dataset = dicom(head(), SeriesDescription="a\x1b[31mred\u202e" + "x" * 500)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    data = saved(dataset)

    text = read(data, Limits(tags=("SeriesDescription",))).tags["SeriesDescription"]

    assert text.isprintable()
    assert len(text) <= 128


def test_traceback_of_a_broken_object_does_not_quote_it() -> None:
    dataset = dicom(head())
    data = saved(dataset).replace(b"MONOCHROME2 ", b"CANARY^JOHN ")

    try:
        read(data)
    except PictureError:
        text = traceback.format_exc()

    assert "CANARY" not in text


def test_patient_data_is_never_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    import pydicom

    seen: list[Dataset] = []
    real = pydicom.dcmread

    def remember(*args: Any, **options: Any) -> Dataset:
        seen.append(real(*args, **options))
        return seen[-1]

    monkeypatch.setattr(pydicom, "dcmread", remember)

    read(saved(dicom(head())))

    del seen[0].PatientID  # tells whose series it is, and leaves the process hashed
    assert CANARY not in str(seen[0])


# --- pydicom's own test files ---


def bundled_files() -> list[Path]:
    folder = Path(pydicom.__file__).parent / "data"
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))


def patient_words(path: Path) -> set[str]:
    """Return the words of every patient, physician and institution named in a file."""
    try:
        dataset = pydicom.dcmread(path, force=True)
        texts = [
            str(element.value)
            for element in dataset.iterall()
            if element.VR == "PN" or element.tag.group == 0x10 or "Institution" in element.keyword
        ]
    except Exception:
        return set()
    return {word for text in texts for word in text.replace("^", " ").split() if len(word) > 4}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("limits", [LIMITS, ANY], ids=["MR only", "any modality"])
def test_bundled_files_end_in_a_picture_or_a_reason_without_patient_data(
    limits: Limits, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    pictures = 0
    for path in bundled_files():
        got = picture_or_error(path.read_bytes(), limits)

        text = caplog.text + "".join(capfd.readouterr())
        if isinstance(got, PictureError):
            text += got.reason
        else:
            pictures += 1
        assert not [word for word in patient_words(path) if word in text], path.name
        caplog.clear()
    assert pictures >= (25 if limits is LIMITS else 80)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE",
        "MR_small_bigendian",
        "MR_small_expb",
        "MR_small_implicit",
        "MR_small_jp2klossless",
        "MR_small_jpeg_ls_lossless",
        "MR_small_padded",
    ],
)
def test_variants_of_one_bundled_slice_are_the_same_picture(name: str) -> None:
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    original = read((folder / "MR_small.dcm").read_bytes()).slices[0].image

    variant = read((folder / f"{name}.dcm").read_bytes()).slices[0].image

    assert variant.tobytes() == original.tobytes()


def test_importing_the_reader_does_not_import_pydicom() -> None:
    import subprocess

    script = (
        "import sys, trainer.images.decode; print(sorted({'pydicom', 'nibabel', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
