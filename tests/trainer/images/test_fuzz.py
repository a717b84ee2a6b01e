"""Whatever bytes arrive, reading gives a Picture or a PictureError, loading Weights or a WeightsError."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.pixels.decoders.base import RLELosslessDecoder

from config.errors import WeightsError
from tests.support.pictures import HOW, encoded, head, picture_or_error
from tests.trainer.images.formats.test_dicom import SYNTAXES, dicom, saved
from tests.trainer.images.formats.test_nifti import nifti, volume
from trainer.images.decode import Limits, Picture, PictureError
from trainer.model.preprocess import preprocess
from trainer.model.spec import ModelSpec
from trainer.model.weights import read_spec, read_weights, write_weights

# Small limits: a bomb must be refused, not survived, and the search goes through many files.
LIMITS = Limits(
    max_bytes=4 << 20, max_pixels=1 << 20, max_slices=3, any_modality=True, tags=("InstanceNumber",)
)
SEARCH = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.data_too_large,
    ],
)


def seeds() -> dict[str, bytes]:
    """Return a small good file of each kind."""
    small = Image.fromarray(head(40, 36))
    sixteen = Image.fromarray(head(40, 36).astype(np.uint16) * 99)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "words"
    files = {
        "jpeg": encoded(small.convert("RGB"), "JPEG", exif=exif),
        "progressive": encoded(small, "JPEG", progressive=True),
        "cmyk": encoded(small.convert("RGB").convert("CMYK"), "JPEG"),
        "png": encoded(small, "PNG", exif=exif),
        "png16": encoded(sixteen, "PNG"),
        "palette": encoded(small.convert("P"), "PNG", transparency=3),
        "apng": encoded(small, "PNG", save_all=True, append_images=[small.rotate(90)]),
        "gif": encoded(small, "GIF", save_all=True, append_images=[small.rotate(9)], transparency=1),
        "bmp": encoded(small, "BMP"),
        "webp": encoded(small.convert("RGBA"), "WEBP", exif=exif),
        "webp lossless": encoded(small, "WEBP", lossless=True),
        "tiff": encoded(sixteen, "TIFF"),
        "nifti": nifti(volume(3)[::8, ::8]),
        "packed nifti": gzip.compress(nifti(volume(3)[::8, ::8])),
        "bare dicom": saved(dicom(head(20, 18)))[132:],
    }
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[compression] = encoded(
            small, "TIFF", compression=compression, save_all=True, append_images=[small.rotate(90)]
        )
    for name in ("implicit", "deflated", "rle 16 bit", "jpeg-ls 8 bit", "jpeg 2000 12 bit", "jpeg baseline"):
        files[f"dicom {name}"] = SYNTAXES[name]()
    return files


SEEDS = seeds()


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Return the bytes with a few of them overwritten, removed, repeated or inserted."""
    broken = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        # Half of all damage goes where the structure is: into the first bytes.
        at = draw(st.integers(0, max(0, min(len(broken), 400) - 1)) | st.integers(0, max(0, len(broken) - 1)))
        kind = draw(st.sampled_from(("set", "number", "cut", "remove", "repeat", "insert")))
        if kind == "set":
            broken[at : at + 1] = bytes(
                [draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)) | st.integers(0, 255))]
            )
        elif kind == "number":
            number = draw(st.sampled_from((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)))
            broken[at : at + 4] = struct.pack(draw(st.sampled_from("<>")) + "I", number)
        elif kind == "cut":
            del broken[at:]
        elif kind == "remove":
            del broken[at : at + draw(st.integers(1, 64))]
        elif kind == "repeat":
            broken[at:at] = broken[at : at + draw(st.integers(1, 64))] * draw(st.integers(1, 4))
        else:
            broken[at:at] = draw(st.binary(min_size=1, max_size=16))
    return bytes(broken)


def check(data: bytes) -> None:
    """Decode and assert what a worker relies on."""
    got = picture_or_error(data, LIMITS)
    if isinstance(got, PictureError):
        assert got.reason
        assert got.reason.isprintable()
        assert len(got.reason) <= 200
        return
    assert isinstance(got, Picture)
    assert 1 <= len(got.slices) <= 3
    assert got.slice_count >= len(got.slices)
    for part in got.slices:
        assert part.image.mode == "L"
        assert 0 <= part.index < got.slice_count
        assert preprocess(part.image, HOW).shape == (HOW.image_size, HOW.image_size)


@pytest.mark.parametrize("name", SEEDS)
@SEARCH
@given(data=st.data())
def test_damaged_file_ends_in_a_picture_or_a_reason(name: str, data: Any) -> None:
    check(data.draw(damaged(SEEDS[name])))


@SEARCH
@given(
    beginning=st.sampled_from([seed[:length] for seed in SEEDS.values() for length in (4, 12, 132, 348)]),
    rest=st.binary(max_size=600),
)
def test_beginning_with_anything_behind_it_ends_in_a_picture_or_a_reason(
    beginning: bytes, rest: bytes
) -> None:
    check(beginning + rest)


@SEARCH
@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_picture_or_a_reason(data: Any) -> None:
    check(data)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (3, 2), (2000, 1), (97, 5)])
def test_picture_of_any_shape_can_be_preprocessed(size: tuple[int, int]) -> None:
    check(encoded(Image.new("L", size, 77), "PNG"))


def test_panic_of_a_rust_decoder_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """pylibjpeg-rle panics on some broken frames, with an exception that `except Exception` does not see."""

    class PanicError(BaseException):
        __module__ = "pyo3_runtime"

    def panic(*_args: object, **_options: object) -> None:
        raise PanicError

    data = SYNTAXES["rle 16 bit"]()
    monkeypatch.setattr(RLELosslessDecoder, "_available", {"pydicom": panic})

    got = picture_or_error(data)

    assert isinstance(got, PictureError)


# --- the weights file ---


@pytest.fixture(scope="module")
def weights_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("weights") / "good.safetensors"
    spec = ModelSpec(name="test", version="1", architecture="small", classes=("no", "yes"))
    write_weights(
        path, spec, {"layer.weight": np.ones((3, 4), np.float32), "layer.bias": np.zeros(4, np.float16)}
    )
    return path.read_bytes()


def load(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    for reader in (read_spec, read_weights):
        error = weights_error(reader, path)
        assert error is None or (str(error).isprintable() and error.exit_code == 4)


def weights_error(reader: Callable[[Path], object], path: Path) -> WeightsError | None:
    try:
        reader(path)
    except WeightsError as error:
        return error
    return None


@SEARCH
@given(data=st.data())
def test_damaged_weights_are_read_or_refused_in_one_line(
    weights_bytes: bytes, tmp_path: Path, data: Any
) -> None:
    load(tmp_path / "w.safetensors", data.draw(damaged(weights_bytes)))


def with_spec(spec_text: str) -> bytes:
    header = json.dumps(
        {
            "__metadata__": {"bt_daemon.spec": spec_text},
            "t": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        }
    ).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
GOOD_SPEC = json.loads(ModelSpec(name="t", version="1", architecture="s", classes=("a", "b")).to_json())
PLACES = [(key,) for key in GOOD_SPEC] + [
    (key, inner) for key, value in GOOD_SPEC.items() if isinstance(value, dict) for inner in value
]


@SEARCH
@given(place=st.sampled_from(PLACES), value=JSON)
def test_spec_with_any_value_anywhere_is_read_or_refused_in_one_line(
    tmp_path: Path, place: Any, value: Any
) -> None:
    spec = json.loads(json.dumps(GOOD_SPEC))
    inner = spec
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value

    load(tmp_path / "w.safetensors", with_spec(json.dumps(spec)))


@SEARCH
@given(JSON)
def test_spec_of_any_json_is_read_or_refused_in_one_line(tmp_path: Path, value: Any) -> None:
    load(tmp_path / "w.safetensors", with_spec(json.dumps(value)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95",  # a pickle
        b"PK\x03\x04" + bytes(100),  # torch.save's zip
        bytes(1000),
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        with_spec("[" * 100_000),
        with_spec('{"format": 99}'),
    ],
)
def test_foreign_file_is_refused(tmp_path: Path, data: Any) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)

    with pytest.raises(WeightsError) as caught:
        read_weights(path)

    assert caught.value.what.isprintable()
    assert len(str(caught.value).splitlines()) == 1
