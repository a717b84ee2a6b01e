"""What this installation can decode is reported, and what its C libraries say reaches nobody's terminal."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydicom.pixels.decoders.base import JPEG2000Decoder
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from tests.conftest import REPOSITORY
from trainer.images.formats.codecs import decodable_transfer_syntaxes, decoder_plugins

ROOT = REPOSITORY


def test_every_decoder_of_the_dependencies_is_there() -> None:
    report = decoder_plugins()

    assert len(report) >= 15
    assert all(report.values()), report


def test_missing_decoder_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JPEG2000Decoder, "_available", {})

    assert [name for name, there in decoder_plugins().items() if not there] == ["DICOM JPEG 2000"]


def test_c_libraries_are_silenced_and_python_is_not() -> None:
    script = (
        "import os, sys; from trainer.images.silence import silence_c_libraries; silence_c_libraries();"
        "os.write(2, b'from C\\n'); print('from Python', file=sys.stderr)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert done.stderr == "from Python\n"


def test_transfer_syntaxes_that_are_decoded_begin_with_the_uncompressed_ones_and_hold_no_video() -> None:
    found = [UID(uid) for uid in decodable_transfer_syntaxes()]

    assert [uid.is_encapsulated for uid in found[:5]] == [False] * 4 + [True]
    assert {ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless} <= set(found)
    assert not [uid for uid in found if "Video" in uid.name or "MPEG" in uid.name]
