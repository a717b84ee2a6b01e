"""What computes a network: a compiled engine made from the weights file, cached, checked, rebuilt.

The weights file is the truth, an engine is a cache. `prepare_engine` runs in the daemon's parent
process and imports neither torch nor OpenVINO; making an engine happens once, in a process of its
own (`daemon.compile_engine`). `open_engine` runs in the process that computes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from config.errors import BtError, DeviceError, UsageError
from config.text import printable
from daemon.child import child_environment
from trainer.judgement import distance_tensors
from trainer.spec import ModelSpec
from trainer.weights import file_sha256, read_spec, read_weights

# Changed when engines are made differently, so that no stale one is used.
ENGINE_FORMAT = 5
MANIFEST = "engine.json"
# Making one takes some seconds; a process that takes this long is stuck.
_COMPILE_SECONDS = 600.0

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """One forward pass of a batch."""

    logits: Floats  # (batch, classes)
    features: Floats  # (batch, channels)
    maps: Floats  # (batch, classes, h, w), class-activation maps


class Engine(Protocol):
    """Computes a network; belongs to one thread."""

    def run(self, batch: npt.NDArray[np.uint8]) -> EngineOutput:
        """Return what the network says of pictures (batch, S, S) uint8."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled network in the engine's folder."""

    file: str
    precision: str  # "fp32" or "bf16", of all that is not in int8
    batch: int  # images at once, the quickest way here


@dataclass(frozen=True, slots=True)
class Slack:
    """By how much an engine may be off on any image."""

    logits: float  # the difference between two logits, divided by the temperature
    distance: float  # the distance to the training images; 0 without a limit


@dataclass(frozen=True, slots=True)
class PreparedEngine:
    """Everything a process needs to open the engine."""

    kind: str  # "openvino" or "torch"
    device: str  # "cpu" or "cuda:N"
    precision: str  # "fp32", "bf16", "int8"
    weights: str  # path
    weights_sha256: str  # hex
    folder: str  # of the compiled form, "" for torch
    why: str  # how engine and precision came to be picked
    network: Compiled | None = None  # None for torch
    # What computes the images again whose answer `network` could change, and by how much it may be off.
    exact: Compiled | None = None
    slack: Slack | None = None


def prepare_engine(
    weights: Path, device: str, precision: str, cache: Path, logger: logging.Logger
) -> tuple[PreparedEngine, ModelSpec]:
    """Return a ready engine and its model's spec, making the compiled form first if it is not cached.

    Raises WeightsError, DeviceError (the device is absent) or UsageError (device or precision cannot
    be meant).
    """
    spec = read_spec(weights)
    where = pick_device(device)
    digest = file_sha256(weights)
    if precision == "int8":
        _refuse_int8_through_torch(where)
    if where != "cpu":
        return _on_gpu(weights, digest, where, precision, cache, logger), spec
    if importlib.util.find_spec("openvino") is None:
        logger.warning("OpenVINO is not installed for this platform; torch is used instead, which is slower")
        why = "OpenVINO is not installed"
        return PreparedEngine("torch", "cpu", "fp32", str(weights), digest, "", why), spec
    return _compiled(weights, digest, precision, cache, logger), spec


def open_engine(prepared: PreparedEngine) -> Engine:
    """Open a prepared engine in the process that computes."""
    if prepared.network is not None:
        return _open_compiled(prepared, prepared.network)
    from daemon.engine_torch import TorchEngine

    return TorchEngine(prepared)


def _open_compiled(prepared: PreparedEngine, network: Compiled) -> Engine:
    from daemon.cascade import CascadeEngine
    from daemon.engine_openvino import OpenVinoEngine

    folder = Path(prepared.folder)
    engine = OpenVinoEngine(folder, network)
    if prepared.exact is None or prepared.slack is None:
        return engine
    weights = read_weights(Path(prepared.weights))
    exact = OpenVinoEngine(folder, prepared.exact)
    return CascadeEngine(engine, exact, prepared.slack, weights.spec, distance_tensors(weights.tensors))


def pick_device(wanted: str) -> str:
    """Return "cpu" or "cuda:N" for auto, cpu or cuda[:N]; the parent process does not import torch for it."""
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d+))?", wanted)
    if match is None or (match[2] is not None and match[1] != "cuda"):
        raise UsageError(f"{printable(repr(wanted))} is no device", hint="write auto, cpu or cuda[:N]")
    if match[1] == "cpu":
        return "cpu"
    count = _cuda_devices()
    if match[1] == "auto":
        return "cuda:0" if count else "cpu"
    number = int(match[2] or 0)
    if number >= count:
        raise DeviceError(
            f"there is no CUDA device {number} here ({count} found)", hint="use --device cpu or --device auto"
        )
    return f"cuda:{number}"


def _refuse_int8_through_torch(where: str) -> None:
    if where != "cpu" or importlib.util.find_spec("openvino") is None:
        raise UsageError(
            "int8 engines are made by OpenVINO, for processors",
            hint="use --precision auto" if where == "cpu" else "use --device cpu or --precision auto",
        )


def _cuda_devices() -> int:
    """Count CUDA devices; torch is asked only if the machine has an NVIDIA device at all."""
    if not list(Path("/dev").glob("nvidia[0-9]*")):
        return 0
    script = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdigit() else 0


def _compiled(
    weights: Path, digest: str, precision: str, cache: Path, logger: logging.Logger
) -> PreparedEngine:
    folder = cache / "engines" / _key(digest, precision)
    found = _read_manifest(folder, weights)
    if found is None:
        shutil.rmtree(folder, ignore_errors=True)
        logger.info("preparing the engine for this machine (once, up to a minute)")
        _compile(weights, folder, precision, logger)
        found = _read_manifest(folder, weights)
    if found is not None:
        return found
    why = "OpenVINO could not make an engine of it"
    return PreparedEngine("torch", "cpu", "fp32", str(weights), digest, "", why)


def _on_gpu(
    weights: Path, digest: str, device: str, precision: str, cache: Path, logger: logging.Logger
) -> PreparedEngine:
    """Return torch on a device in a precision that agrees with float32 there; it is sought once.

    Raises DeviceError if the device cannot be used.
    """
    parts = (digest, precision, device, str(ENGINE_FORMAT), importlib.metadata.version("torch"), _gpus())
    folder = cache / "engines" / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    found, trouble = _read_manifest(folder, weights), ""
    if found is None:
        shutil.rmtree(folder, ignore_errors=True)
        logger.info("looking for the fastest precision on %s (once, up to a minute)", device)
        trouble = _make("daemon.check_torch", str(weights), str(folder), precision, device)
        found = _read_manifest(folder, weights)
    if found is None:
        trouble = trouble or f"nothing can be written to {cache}"
        raise DeviceError(
            f"{device} cannot be used ({printable(trouble)})", hint="use --device cpu; see bt-daemon doctor"
        )
    return found


def _compile(weights: Path, folder: Path, precision: str, logger: logging.Logger) -> None:
    """Make the engine in a process of its own, so that torch never enters this one."""
    trouble = _make("daemon.compile_engine", str(weights), str(folder), precision)
    if trouble:
        logger.warning("the engine could not be made (%s); torch is used instead, which is slower", trouble)


def _make(module: str, weights: str, folder: str, *wanted: str) -> str:
    """Run a module that makes an engine's folder; return in words why it could not, '' if it did."""
    try:
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", module, weights, folder, *wanted],
            capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False, env=child_environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode in {2, 4}:  # told by the other process in one line already
        raise _as_error(done.returncode, last)
    return last if done.returncode else ""


def _as_error(code: int, line: str) -> BtError:
    from config.errors import WeightsError

    return WeightsError(line) if code == 4 else UsageError(line)


def _read_manifest(folder: Path, weights: Path) -> PreparedEngine | None:
    """Return the engine a folder holds, None when there is none or anything about it is in doubt."""
    try:
        stored = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if stored.pop("files") != _sizes(folder):
            return None
        for name, kind in (("network", Compiled), ("exact", Compiled), ("slack", Slack)):
            stored[name] = None if stored[name] is None else kind(**stored[name])
        names = {field.name for field in fields(PreparedEngine)}
        return PreparedEngine(
            **{name: stored[name] for name in names} | {"folder": str(folder), "weights": str(weights)}
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_manifest(folder: Path, prepared: PreparedEngine) -> None:
    """Write what `_read_manifest` reads, last of all the files of an engine."""
    stored = asdict(prepared) | {"files": _sizes(folder)}
    (folder / MANIFEST).write_text(json.dumps(stored), encoding="utf-8")


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.glob("model.*"))}


def _key(digest: str, precision: str) -> str:
    """Name an engine by everything it depends on."""
    parts = (digest, precision, str(ENGINE_FORMAT), importlib.metadata.version("openvino"), _processor())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _gpus() -> str:
    """Return what the NVIDIA driver says of itself and its devices, without waking them."""
    files = sorted(Path("/proc/driver/nvidia").glob("gpus/*/information"))
    lines = [line for path in files for line in _lines(path) if line.startswith("Model")]
    return "\n".join([*_lines(Path("/proc/driver/nvidia/version")), *lines])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _processor() -> str:
    """Return model and features of the processor: code compiled for another may not run here."""
    wanted = ("model name", "flags", "Features", "CPU part")
    lines = _lines(Path("/proc/cpuinfo"))
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)})) or os.uname().machine
