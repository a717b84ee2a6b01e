"""Archives of images are recognised, and refused unopened."""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.pictures import picture_or_error
from trainer.images.decode import Limits, PictureError, ReadFailure, decode, read_file


def _zip(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return stream.getvalue()


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (_zip("a.png"), "ZIP"),
        (_zip(), "ZIP"),
        (b"PK\x07\x08PK\x03\x04" + bytes(50), "ZIP"),
        (_tar(), "tar"),
        (lzma.compress(b"content"), "XZ"),
        (bz2.compress(b"content"), "bzip2"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "7-Zip"),
        (b"Rar!\x1a\x07\x01\x00" + bytes(50), "RAR"),
        (b"\x28\xb5\x2f\xfd" + bytes(50), "Zstandard"),
    ],
    ids=["zip", "empty zip", "zip of several volumes", "tar", "xz", "bz2", "7z", "rar", "zst"],
)
def test_an_archive_is_refused_with_the_next_step(data: bytes, kind: str) -> None:
    got = picture_or_error(data)

    assert isinstance(got, PictureError)
    assert got.reason == f"a {kind} archive, not an image; unpack it into the inbox"
    assert got.kind is ReadFailure.PERMANENT


def test_an_archive_beyond_the_size_limit_is_called_one_and_another_file_too_large(tmp_path: Path) -> None:
    archive, other = tmp_path / "a.zip", tmp_path / "b"
    archive.write_bytes(_zip("a.png") + bytes(2000))
    other.write_bytes(bytes(2000))
    reasons = []
    for path in (archive, other):
        with pytest.raises(PictureError) as caught:
            decode(read_file(path, Limits(max_bytes=1000)).data, Limits(), 224)
        reasons.append(caught.value.reason)

    assert reasons[0].startswith("a ZIP archive")
    assert reasons[1] == "2000 bytes: more than the limit of 1000 bytes"
