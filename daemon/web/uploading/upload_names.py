"""Names of uploaded files: which are taken, and what comes next where a name is taken already."""

from __future__ import annotations

import os
from collections.abc import Iterator

from config.errors import BtError
from config.text import printable
from daemon.inbox.filters import Choice, why_passed_over

# Bytes. File systems end at 255, and a number may have to be put before the ending.
LONGEST_NAME = 240
_MOST_OF_A_NAME = 1_000
# Endings of two parts, before both of which the number goes.
_DOUBLE = (".nii.gz", ".dcm.gz", ".img.gz")


class UploadRefusedError(BtError):
    """A file that is not taken; `status` is HTTP's."""

    def __init__(self, status: int, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.status = status


def checked_name(name: str, choice: Choice) -> bytes:
    """Return a file's name as it goes to the disk; raises UploadRefusedError."""
    if not name or name in {".", ".."} or "/" in name or "\\" in name:
        raise UploadRefusedError(400, "a file's name is needed, without any folder")
    if printable(name) != name or name != name.strip():
        raise UploadRefusedError(
            400, "the file's name has characters that cannot be seen", hint="rename it and send it again"
        )
    stored = os.fsencode(name)
    if len(stored) > LONGEST_NAME:
        raise UploadRefusedError(400, f"the file's name is longer than {LONGEST_NAME} bytes")
    if not choice.takes_file(b"", stored):
        why = why_passed_over(stored)
        raise UploadRefusedError(
            415,
            f"the daemon does not look at files of that name{f' ({why})' if why else ''}",
            hint="send images: DICOM, NIfTI, PNG, JPEG, TIFF",
        )
    return stored


def names_to_try(name: bytes) -> Iterator[bytes]:
    """Return a name, then it with -1, -2 and so on before its ending."""
    yield name
    shown = os.fsdecode(name)
    double = next((end for end in _DOUBLE if shown.lower().endswith(end)), "")
    at = len(shown) - len(double) if double else len(os.path.splitext(shown)[0])
    for number in range(1, _MOST_OF_A_NAME):
        yield os.fsencode(f"{shown[:at]}-{number}{shown[at:]}")
