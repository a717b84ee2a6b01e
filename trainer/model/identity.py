"""Identity of a weights file: its sha256. Imports nothing slow: the daemon's start waits for it."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from config.errors import UsageError, WeightsError
from config.text import printable

# A default model has a few MB, the largest architecture offered about 100 MB; beyond this a file is
# not one of ours and would only take time and memory.
MAX_BYTES = 2 << 30
WEIGHTS_HINT = "give --weights a .safetensors file written by bt-train"


def default_weights() -> Path:
    """Return the path of the model that ships with the package."""
    return Path(__file__).parent.parent / "default" / "default.safetensors"


def check_weights_file(path: Path) -> None:
    """Raise WeightsError if there can be no weights at `path`, OSError if it cannot be looked at."""
    shown = printable(str(path))
    if not path.is_file():
        raise WeightsError(f"no weights file at {shown}", hint=WEIGHTS_HINT)
    if path.stat().st_size > MAX_BYTES:
        raise WeightsError(
            f"{shown} is larger than {MAX_BYTES >> 30} GiB: not a weights file", hint=WEIGHTS_HINT
        )


def check_new_file(path: Path) -> None:
    """Raise UsageError unless a new weights file can be written to `path`; asked before minutes are spent."""
    shown = printable(str(path))
    if path.exists():
        raise UsageError(f"{shown} is there already", hint="give another -o FILE")
    if not path.parent.is_dir():
        raise UsageError(
            f"no folder at {printable(str(path.parent))}", hint="make it, or give another -o FILE"
        )
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(
            f"nothing can be written to {printable(str(path.parent))} ({error.strerror})",
            hint="give another -o FILE",
        ) from None


def weights_sha256(path: Path) -> str:
    """Return the sha256 of a weights file as hex: the model's identity. Raise WeightsError without one."""
    try:
        check_weights_file(path)
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        what = f"{printable(str(path))} is not a readable weights file"
        raise WeightsError(
            f"{what} ({printable(error.strerror or str(error))})", hint=WEIGHTS_HINT
        ) from error
