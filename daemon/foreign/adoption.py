"""Adopt a network that was not trained here: its ONNX file and description become one weights file.

That file, `CACHE/foreign/SHA256.safetensors`, holds both, byte for byte the same whenever it is made: its
sha256 is the model's identity, and whatever knows weights files (workers, the models kept beside a database,
pages) knows it. It is made in a process of its own with bounded memory, after `onnx_wire` looked at the file.

    python -m daemon.foreign.adoption NETWORK DESCRIPTION FOLDER
"""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import BtError, UsageError, WeightsError
from config.files import atomic_write
from config.text import printable
from daemon.foreign.description import HINT, description_key, read_description
from daemon.process import child_environment, limit_memory
from trainer.model.foreign_network import FOREIGN_TENSOR
from trainer.model.identity import check_weights_file, default_weights, weights_sha256

if TYPE_CHECKING:
    from config.settings import Settings

SUFFIX = ".onnx"
_SECONDS = 300.0
# On top of the file itself three times: as bytes, as a tensor and as the file that is written.
_MEMORY = 256 << 20


def model_file(settings: Settings) -> Path:
    """Return the weights file of the settings: the shipped one, the one given, or the one adopted.

    Raises UsageError or WeightsError if an ONNX file cannot be adopted, or `spec` is without one.
    """
    if settings.weights.lower().endswith(SUFFIX):
        if not settings.spec:
            raise UsageError(
                f"{printable(settings.weights)} does not say what its numbers mean",
                hint="give --spec FILE.toml too; of a model of bt-train's give the .safetensors file instead",
            )
        return adopted(Path(settings.weights), Path(settings.spec), Path(settings.cache))
    if settings.spec:
        raise UsageError(
            "--spec describes a network that was not trained here", hint="give it with --weights FILE.onnx"
        )
    return Path(settings.weights) if settings.weights else default_weights()


def adopted(network: Path, description: Path, cache: Path) -> Path:
    """Return the weights file of an ONNX file with a description, made if it is not in the cache."""
    spec = read_description(description, network)
    folder = cache.resolve() / "foreign"
    known = folder / f"{description_key(weights_sha256(network), spec)}.txt"
    found = _found(known)
    if found is None:
        _run(network, description, folder)
        found = _found(known)
    if found is None:
        raise WeightsError(f"{printable(str(network))} changed while it was read", hint="start again")
    return found


def adopted_file(cache: Path, sha256: str) -> Path:
    """Return where the weights file with this hash lies in the cache if it was adopted."""
    return cache.resolve() / "foreign" / f"{sha256}.safetensors"


def _found(known: Path) -> Path | None:
    """Return the file that was made before, if it is what it was."""
    try:
        sha256 = known.read_text("ascii").strip()
        place = known.with_name(f"{sha256}.safetensors")
        return place if len(sha256) == 64 and weights_sha256(place) == sha256 else None
    except (OSError, ValueError, WeightsError):
        return None


def _run(network: Path, description: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "daemon.foreign.adoption", str(network), str(description), str(folder)],
            capture_output=True, text=True, timeout=_SECONDS, check=False, env=child_environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WeightsError(f"{printable(str(network))} cannot be read ({printable(str(error))})") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        raise (UsageError if done.returncode == UsageError.exit_code else WeightsError)(printable(last))


def adopt(network: Path, description: Path, folder: Path) -> Path:
    """Write the weights file of an ONNX file and its description into a folder and return its path."""
    import numpy as np

    from daemon.foreign.onnx_wire import check_onnx
    from trainer.model.weights import write_weights

    check_weights_file(network)
    limit_memory(3 * network.stat().st_size + _MEMORY)
    spec = read_description(description, network)
    shown = printable(str(network))
    with network.open("rb") as stream:
        if not network.stat().st_size:
            raise WeightsError(f"{shown} is empty", hint="export it again")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
            try:
                check_onnx(data)
            except WeightsError as error:
                raise WeightsError(f"{shown}: {error.what}", hint=error.hint or "export it again") from None
        content = np.fromfile(network, dtype=np.uint8)
    made = folder / f".{network.name[:80]}.{spec.version[:20].encode().hex()}.made"
    sha256 = write_weights(made, spec, {FOREIGN_TENSOR: content})
    place = folder / f"{sha256}.safetensors"
    made.replace(place)
    import hashlib

    key = description_key(hashlib.sha256(content.data).hexdigest(), spec)
    with atomic_write(folder / f"{key}.txt") as stream:
        stream.write(sha256.encode())
    return place


def main(arguments: list[str]) -> int:
    """Adopt; print one line and return an exit code if that cannot be."""
    network, description, folder = map(Path, arguments)
    try:
        adopt(network, description, folder)
    except BtError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except MemoryError:
        sys.stderr.write(f"{printable(str(network))} needs more memory than its size allows; {HINT}\n")
        return WeightsError.exit_code
    except OSError as error:
        sys.stderr.write(
            f"nothing can be written to {printable(str(folder))} ({error.strerror}); give --cache DIR\n"
        )
        return UsageError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
