"""The same slice in any container becomes the same network input, and nothing else becomes a picture."""

from __future__ import annotations

import os
import socket
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storage.records import FailureKind
from tests.support.pictures import LIMITS, difference, encoded, head, network_input, picture_or_error, read
from trainer.images.decode import Limits, Picture, PictureError, ReadFailure, decode, read_file
from trainer.images.reduction import reduction

ALLOWED = ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"]


@pytest.fixture(scope="module")
def slice_() -> Image.Image:
    return Image.fromarray(head())


@pytest.fixture(scope="module")
def reference(slice_: Image.Image) -> np.ndarray:
    return network_input(encoded(slice_, "PNG"))


def sixteen(image: Image.Image, scale: int) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint16) * scale)


def with_alpha(image: Image.Image, mode: str) -> Image.Image:
    layered = image.convert(mode)
    layered.putalpha(255)
    return layered


CONTAINERS = {
    "bmp": lambda image: encoded(image, "BMP"),
    "rgb bmp": lambda image: encoded(image.convert("RGB"), "BMP"),
    "gif": lambda image: encoded(image, "GIF"),
    "webp lossless": lambda image: encoded(image, "WEBP", lossless=True),
    "rgb png": lambda image: encoded(image.convert("RGB"), "PNG"),
    "palette png": lambda image: encoded(image.convert("P"), "PNG"),
    "rgba png": lambda image: encoded(with_alpha(image, "RGBA"), "PNG"),
    "la png": lambda image: encoded(with_alpha(image, "LA"), "PNG"),
    "16-bit png, full range": lambda image: encoded(sixteen(image, 257), "PNG"),
    "16-bit png, 12 bits used": lambda image: encoded(sixteen(image, 16), "PNG"),
    "16-bit png, 8 bits used": lambda image: encoded(sixteen(image, 1), "PNG"),
    "tiff": lambda image: encoded(image, "TIFF"),
    "lzw tiff": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
    "deflated tiff": lambda image: encoded(image, "TIFF", compression="tiff_adobe_deflate"),
    "16-bit tiff": lambda image: encoded(sixteen(image, 200), "TIFF"),
    "32-bit tiff": lambda image: encoded(image.convert("I"), "TIFF"),
    "float tiff": lambda image: encoded(Image.fromarray(np.asarray(image) / np.float32(300)), "TIFF"),
    "cmyk tiff": lambda image: encoded(image.convert("RGB").convert("CMYK"), "TIFF"),
    "inverted grey tiff": lambda image: encoded(image, "TIFF", tiffinfo={262: 1}),
    "profiled png": lambda image: encoded(image.convert("RGB"), "PNG", icc_profile=srgb_profile()),
}
LOSSY = {
    "jpeg": lambda image: encoded(image, "JPEG", quality=95),
    "rgb jpeg": lambda image: encoded(image.convert("RGB"), "JPEG", quality=95),
    "progressive jpeg": lambda image: encoded(image, "JPEG", quality=95, progressive=True),
    "cmyk jpeg": lambda image: encoded(image.convert("RGB").convert("CMYK"), "JPEG", quality=95),
    "webp": lambda image: encoded(image.convert("RGB"), "WEBP", quality=95),
}


def srgb_profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("container", CONTAINERS)
def test_lossless_container_gives_the_same_network_input(
    container: str, slice_: Image.Image, reference: np.ndarray
) -> None:
    data = CONTAINERS[container](slice_)

    seen = network_input(data)

    assert difference(seen, reference) < 0.6
    assert np.percentile(np.abs(seen.astype(int) - reference), 99.9) <= 4


@pytest.mark.parametrize("container", LOSSY)
def test_lossy_container_gives_nearly_the_same_network_input(
    container: str, slice_: Image.Image, reference: np.ndarray
) -> None:
    assert difference(network_input(LOSSY[container](slice_)), reference) < 1.5


@pytest.mark.parametrize("size", [(512, 512), (513, 777), (1023, 1023), (2048, 1500), (64, 4000), (3, 2100)])
def test_jpeg_and_png_of_any_size_are_reduced_alike(size: tuple[int, int]) -> None:
    picture = Image.fromarray(head(size[1], size[0]))
    jpeg, png = read(encoded(picture, "JPEG", quality=95)), read(encoded(picture, "PNG"))

    assert jpeg.slices[0].image.size == png.slices[0].image.size
    assert (jpeg.width, jpeg.height) == size
    factor = reduction(*size, 256)
    assert jpeg.slices[0].image.size == (-(-size[0] // factor), -(-size[1] // factor))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(512, 512), (1024, 900), (2048, 2048)])
def test_reduced_jpeg_and_png_give_nearly_the_same_network_input(size: tuple[int, int]) -> None:
    picture = Image.fromarray(head(size[1], size[0]))

    assert (
        difference(
            network_input(encoded(picture, "JPEG", quality=95)), network_input(encoded(picture, "PNG"))
        )
        < 2.0
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(
    orientation: int, format_name: str, slice_: Image.Image, reference: np.ndarray
) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that a camera's sensor did
    stored = slice_ if orientation == 1 else slice_.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format_name == "WEBP" else {}

    data = encoded(stored, format_name, exif=exif, **options)

    picture = read(data)
    assert (picture.width, picture.height) == slice_.size
    assert picture.slices[0].image.size == slice_.size
    assert difference(network_input(data), reference) < 1.5


def test_transparent_regions_are_black() -> None:
    shown = Image.fromarray(head())
    layered = shown.convert("RGBA")
    layered.putalpha(
        Image.fromarray(np.where(np.arange(260) < 130, 0, 255).astype(np.uint8)[None].repeat(300, 0))
    )

    (only,) = read(encoded(layered, "PNG")).slices

    assert not np.asarray(only.image)[:, :130].any()
    assert (np.asarray(only.image)[:, 130:] == head()[:, 130:]).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_transparent_colour_is_black(mode: str) -> None:
    white = Image.new("L", (40, 30), 255)
    white.paste(128, (0, 0, 20, 30))
    image = white.convert(mode, dither=Image.Dither.NONE)
    key = {"L": 255, "RGB": (255, 255, 255), "P": image.convert("P").getpixel((30, 10)), "1": 255}[mode]

    (only,) = read(encoded(image, "PNG", transparency=key)).slices

    assert only.image.getpixel((30, 10)) == 0


def test_first_frame_of_an_animation_is_taken(slice_: Image.Image, reference: np.ndarray) -> None:
    other = Image.new("L", slice_.size, 200)
    for format_name in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if format_name == "WEBP" else {}
        data = encoded(slice_, format_name, save_all=True, append_images=[other], **options)

        picture = read(data)

        assert picture.slice_count == 1
        assert difference(network_input(data), reference) < 0.6


def test_pages_of_one_size_are_a_volume() -> None:
    pages = [Image.fromarray(head() // part) for part in (1, 2, 3)]
    empty = Image.new("L", pages[0].size)

    picture = read(encoded(empty, "TIFF", save_all=True, append_images=[*pages, empty]))

    assert picture.slice_count == 5
    assert [part.index for part in picture.slices] == [1, 2, 3]  # the empty ends are not judged
    for part, page in zip(picture.slices, pages, strict=True):
        assert part.image.tobytes() == page.tobytes()


def test_pages_of_different_size_are_not_a_volume(slice_: Image.Image, reference: np.ndarray) -> None:
    thumbnail = slice_.resize((26, 30))

    picture = read(encoded(slice_, "TIFF", save_all=True, append_images=[thumbnail]))

    assert len(picture.slices) == 1
    assert picture.slices[0].index == 0


def test_slices_of_a_long_volume_are_evenly_spaced() -> None:
    page = Image.fromarray(head(64, 64))
    data = encoded(page, "TIFF", save_all=True, append_images=[page] * 99)

    picture = read(data, Limits(max_slices=10))

    assert [part.index for part in picture.slices] == list(range(5, 100, 10))


def test_not_a_number_is_black() -> None:
    values = head().astype(np.float32)
    values[:40] = np.nan
    values[0, :20] = np.inf

    (only,) = read(encoded(Image.fromarray(values), "TIFF")).slices

    assert not np.asarray(only.image)[:40].any()


# --- what is no picture ---


@pytest.mark.parametrize(
    "data",
    [
        b"hello, world, this is text",
        b"%!PS-Adobe-3.0 EPSF",
        b"<svg xmlns='x'/>",
        b"SIMPLE  =    T",
        b"%PDF-1.7",
    ],
)
def test_other_kinds_of_file_never_reach_a_decoder(data: Any) -> None:
    with pytest.raises(PictureError) as caught:
        decode(data * 50, LIMITS, 256)

    assert (caught.value.kind, caught.value.reason) == (
        ReadFailure.PERMANENT,
        "not an image of a known format",
    )


def test_text_that_begins_like_a_bitmap_is_not_waited_for() -> None:
    with pytest.raises(PictureError) as caught:
        read(b"BMI and other measures, in no particular order")

    assert caught.value.kind == ReadFailure.PERMANENT


def test_every_word_of_the_ledger_exists_here() -> None:
    assert {kind.value for kind in ReadFailure} == {kind.value for kind in FailureKind}


CUT = {
    **CONTAINERS,
    **LOSSY,
    "animated gif": lambda image: encoded(image, "GIF", save_all=True, append_images=[image.rotate(9)]),
    "volume tiff": lambda image: encoded(
        image, "TIFF", save_all=True, append_images=[image.rotate(9)], compression="tiff_lzw"
    ),
}


@pytest.mark.parametrize("container", CUT)
def test_file_cut_anywhere_is_incomplete_or_whole(container: str, slice_: Image.Image) -> None:
    """What is cut off after the last pixel may be missed; half a picture never passes."""
    data = CUT[container](slice_)
    pixels = [part.image.tobytes() for part in read(data).slices]

    for share in (*range(4, 100, 5), 99.5):
        got = picture_or_error(data[: int(len(data) * share / 100)])
        if isinstance(got, PictureError):
            assert got.kind == ReadFailure.INCOMPLETE, (share, got.reason)
        else:
            assert [part.image.tobytes() for part in got.slices] == pixels, share


@pytest.mark.parametrize("container", ["jpeg", "rgb png", "gif", "webp lossless", "deflated tiff"])
def test_file_whose_end_is_still_zeros_is_incomplete(container: str, slice_: Image.Image) -> None:
    data = {**CONTAINERS, **LOSSY}[container](slice_)
    half = len(data) // 2

    with pytest.raises(PictureError) as caught:
        read(data[:half] + bytes(len(data) - half))

    assert caught.value.kind == ReadFailure.INCOMPLETE


def test_file_of_zeros_is_incomplete() -> None:
    with pytest.raises(PictureError) as caught:
        read(bytes(5000))

    assert caught.value.kind == ReadFailure.INCOMPLETE


# --- bombs ---


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bmp_header(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 1000, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    )


def gif_header(width: int, height: int) -> bytes:
    size = struct.pack("<HH", width, height)
    return b"GIF89a" + size + b"\0\0\0" + b"," + bytes(4) + size + b"\0\2" + bytes(100) + b";"


def tiff_header(width: int, height: int) -> bytes:
    entries = {
        256: width,
        257: height,
        258: 8,
        259: 1,
        262: 1,
        273: 200,
        277: 1,
        278: height,
        279: width * height,
    }
    directory = b"".join(
        struct.pack("<HHII", tag, 4, 1, value & 0xFFFFFFFF) for tag, value in entries.items()
    )
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(500)


def webp_header(width: int, height: int) -> bytes:
    body = (
        b"VP8X"
        + struct.pack("<I", 10)
        + bytes(4)
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def jpeg_header(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("L", (16, 16)), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("side", [10_000, 30_000, 65_500, 300_000])
@pytest.mark.parametrize(
    "header", [png_header, bmp_header, gif_header, tiff_header, webp_header, jpeg_header]
)
def test_bomb_is_refused_from_its_header(header: Callable[[int, int], bytes], side: int) -> None:
    if side > 65_535 and header in (gif_header, jpeg_header):
        pytest.skip("this format has 16 bits for a side")
    data = header(side, side)
    start = time.perf_counter()

    with pytest.raises(PictureError) as caught:
        read(data)

    assert caught.value.kind == ReadFailure.PERMANENT
    assert f"{side} x {side} pixels" in caught.value.reason
    assert time.perf_counter() - start < 0.5


def test_huge_page_behind_a_small_one_is_not_decoded() -> None:
    data = encoded(
        Image.new("L", (50, 50), 9), "TIFF", save_all=True, append_images=[Image.new("L", (60, 60))]
    )

    picture = read(data, Limits(max_pixels=2500))

    assert len(picture.slices) == 1


# --- reading the file ---


def expect(kind: ReadFailure, path: Path | bytes | str, limits: Limits = LIMITS, **options: Any) -> str:
    with pytest.raises(PictureError) as caught:
        read_file(path, limits, **options)
    assert caught.value.kind == kind
    assert caught.value.reason.isprintable()
    return caught.value.reason


def test_regular_file_is_read_with_its_identity(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(b"x" * 3_000_000)
    status = path.stat()

    content = read_file(os.fsencode(path), LIMITS, (status.st_size, status.st_mtime_ns, status.st_ino))

    assert (content.size, content.mtime_ns, content.inode) == (
        status.st_size,
        status.st_mtime_ns,
        status.st_ino,
    )
    assert len(content.data) == 3_000_000
    assert len(content.sha256) == 32


def test_name_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe\n.png"
    with open(path, "wb") as stream:
        stream.write(b"data")

    assert read_file(path, LIMITS).data == b"data"


def test_empty_file_is_incomplete(tmp_path: Path) -> None:
    (tmp_path / "a").touch()

    expect(ReadFailure.INCOMPLETE, tmp_path / "a")


def test_missing_file_is_gone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    expect(ReadFailure.GONE, tmp_path / "a")
    expect(ReadFailure.GONE, tmp_path / "file" / "a")


def test_large_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)

    assert "limit" in expect(ReadFailure.PERMANENT, path)


def test_other_version_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"data")
    status = path.stat()

    expect(ReadFailure.CHANGED, path, expected=(4, status.st_mtime_ns - 1, status.st_ino))


def test_file_that_grows_while_it_is_read_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"data")
    real = os.read

    def read_and_append(descriptor: int, size: int) -> bytes:
        data = real(descriptor, size)
        with path.open("ab") as stream:
            stream.write(b"more")
        return data

    monkeypatch.setattr(os, "read", read_and_append)

    expect(ReadFailure.CHANGED, path)


def test_unreadable_file_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"data")

    for number in (13, 16, 5, 28, 116, 24):  # EACCES, EBUSY, EIO, ENOSPC, ESTALE, EMFILE

        def refuse(*_args: object, number: int = number) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "open", refuse)
        expect(ReadFailure.TRANSIENT, tmp_path / "a")


def test_what_is_not_a_regular_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "target").write_bytes(b"data")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)  # a socket's path has 108 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        monkeypatch.setattr(os, "open", lambda *_args: pytest.fail("opened"))

        for name in ("fifo", "folder", "link", "loop", "socket", "/dev/zero"):
            path = name if name.startswith("/") else tmp_path / name
            assert "not a regular file" in expect(ReadFailure.PERMANENT, path)


def test_name_that_becomes_a_fifo_or_link_after_the_look_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("file")
    regular = os.lstat(tmp_path / "file")
    monkeypatch.setattr(os, "lstat", lambda _path: regular)

    for name in ("fifo", "link"):
        assert "not a regular file" in expect(ReadFailure.PERMANENT, tmp_path / name)


# --- the public corpus ---


def test_corpus_is_decoded_as_far_as_pillow_can_and_no_further(shared: Path) -> None:
    """Each ends in a Picture or a PictureError within 3 s; the set is Pillow's, less what limits refuse."""
    for path in sorted((shared / "corpus" / "images").iterdir()):
        start = time.perf_counter()
        got = picture_or_error(read_file(path, LIMITS).data)

        assert time.perf_counter() - start < 3, path.name
        if isinstance(got, Picture):
            assert got.slices
            assert all(part.image.mode == "L" for part in got.slices)
            assert pillow_decodes(path), path.name
        elif "more than the limit" not in got.reason:
            assert not pillow_decodes(path), (path.name, got.reason)


def pillow_decodes(path: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=ALLOWED) as image:
                image.load()
        except Exception:
            return False
        return True
