"""One `.safetensors` file holds a whole model: tensors, and the ModelSpec in its metadata.

Nothing is ever unpickled. Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from config.errors import WeightsError
from config.text import printable
from trainer.model.identity import WEIGHTS_HINT, check_weights_file, weights_sha256
from trainer.model.reference import stored_reference
from trainer.model.seen import Seen
from trainer.model.spec import ModelSpec

SPEC_KEY = "bt_daemon.spec"
Tensors = dict[str, npt.NDArray[np.generic]]
# Beginnings of the names of tensors that are not the network's: of the distance limit, the reference answers,
# and, in files of earlier versions, ranges for engines in 8-bit integers.
_NOT_THE_NETWORKS = ("ood.", "reference.", "int8.")


@dataclass(frozen=True, slots=True)
class Weights:
    """A model as read from its file."""

    path: Path
    sha256: str  # hex, of the file's bytes: the model's identity
    spec: ModelSpec
    tensors: Tensors
    seen: Seen = field(default_factory=Seen)  # the images it knows


def read_spec(path: Path) -> ModelSpec:
    """Return the ModelSpec of a weights file without reading its tensors; raise WeightsError."""
    return _open(path)[0]


def read_weights(path: Path) -> Weights:
    """Return spec, tensors and identity of a weights file; raise WeightsError if it is not one.

    All of its numbers are finite, and those of the spec in ranges that make sense.
    """
    spec, tensors, seen = _open(path, with_tensors=True)
    return Weights(path=path, sha256=weights_sha256(path), spec=spec, tensors=tensors, seen=seen)


def network_tensors(tensors: Tensors) -> Tensors:
    """Return those of a weights file's tensors that are its network's."""
    return {name: value for name, value in tensors.items() if not name.startswith(_NOT_THE_NETWORKS)}


def write_weights(
    path: Path, spec: ModelSpec, tensors: Mapping[str, npt.NDArray[np.generic]], seen: Seen | None = None
) -> str:
    """Write a weights file atomically (temporary file, fsync, rename) and return its sha256 as hex."""
    metadata = {SPEC_KEY: spec.to_json()} | (seen or Seen()).metadata()
    data = _ordered(save({name: _narrow(tensor) for name, tensor in tensors.items()}, metadata))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return hashlib.sha256(data).hexdigest()


def _ordered(data: bytes) -> bytes:
    """Return a safetensors file with its metadata sorted: else its sha256, a model's identity, would vary."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # what follows is aligned
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _narrow(tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return a float32 tensor as float16 if not one of its numbers changes, others as they are."""
    if tensor.dtype == np.float32:
        with np.errstate(over="ignore"):
            half = tensor.astype(np.float16)
        if np.array_equal(half.astype(np.float32), tensor):
            return np.ascontiguousarray(half)
    return np.ascontiguousarray(tensor)


def _check_tensors(spec: ModelSpec, tensors: Tensors) -> None:
    """Refuse numbers that are none, and a limit or reference without all that belongs to it."""
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise WeightsError(
                f"the weights file's tensor {printable(name)[:80]} holds numbers that are not finite",
                hint="train it again",
            )
    stored_reference(tensors, len(spec.classes))
    if spec.out_of_distribution is None:
        return
    means, whitening = tensors.get("ood.means"), tensors.get("ood.whitening")
    if (
        means is None
        or whitening is None
        or (means.ndim, whitening.ndim) != (2, 2)
        or not 1 <= len(means) <= len(spec.classes)
        or means.shape[1] != len(whitening)
    ):
        raise WeightsError("the weights file has a distance limit without the tensors that go with it")


def _open(path: Path, *, with_tensors: bool = False) -> tuple[ModelSpec, Tensors, Seen]:
    shown = printable(str(path))
    try:
        check_weights_file(path)
        with safe_open(path, framework="np") as stream:
            metadata = stream.metadata() or {}
            text = metadata.get(SPEC_KEY)
            if text is None:
                raise WeightsError(f"{shown} is a safetensors file of another tool", hint=WEIGHTS_HINT)
            spec = ModelSpec.from_json(text)
            if not with_tensors:
                return spec, {}, Seen()
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
        _check_tensors(spec, tensors)
        return spec, tensors, Seen.from_metadata(metadata)
    except WeightsError as error:
        raise (
            error
            if shown in error.what
            else WeightsError(f"{shown}: {error.what}", hint=error.hint or WEIGHTS_HINT)
        ) from None
    except (
        SafetensorError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        reason = printable(str(error)).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{shown} is not a readable weights file ({reason[:120]})", hint=WEIGHTS_HINT
        ) from error
