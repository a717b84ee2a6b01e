"""Where engines come from: made from the weights file once, cached, checked, rebuilt.

The weights file is the truth, an engine is a cache. `prepare_engine` runs in the daemon's parent
process and imports neither torch nor OpenVINO, and NumPy only when there is an engine to make, which
happens in a process of its own (`daemon.compile_engine`).
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
from dataclasses import asdict, fields
from pathlib import Path

from config.errors import BtError, DeviceError, UsageError, WeightsError
from config.text import printable
from daemon.child import child_environment
from daemon.prepared import Compiled, PreparedEngine, Slack
from trainer.spec import ModelSpec
from trainer.weights_file import weights_sha256

# Changed when engines are made differently, so that no stale one is used.
ENGINE_FORMAT = 6
MANIFEST = "engine.json"
# Making one takes some seconds; a process that takes this long is stuck.
_COMPILE_SECONDS = 600.0


def prepare_engine(
    weights: Path, device: str, precision: str, cache: Path, logger: logging.Logger
) -> tuple[PreparedEngine, ModelSpec]:
    """Return a ready engine and its model's spec, making the compiled form first if it is not cached.

    Raises WeightsError, DeviceError (the device is absent) or UsageError (device or precision cannot
    be meant).
    """
    digest = weights_sha256(weights)
    where = pick_device(device)
    if precision == "int8":
        _refuse_int8_through_torch(where)
    if where != "cpu":
        return _on_gpu(weights, digest, where, precision, cache, logger)
    if importlib.util.find_spec("openvino") is None:
        logger.warning("OpenVINO is not installed for this platform; torch is used instead, which is slower")
        return _through_torch(weights, digest, "OpenVINO is not installed")
    return _compiled(weights, digest, precision, cache, logger)


def engine_for_drawing(weights: Path, sha256: str, cache: Path) -> PreparedEngine:
    """Return an engine of a model for drawing: one that is there already, else torch.

    Whoever waits for a picture is not made to wait for a compilation.
    """
    if importlib.util.find_spec("openvino") is not None:
        for precision in ("auto", "fp32", "bf16", "int8"):
            found = _read_manifest(cache.resolve() / "engines" / _key(sha256, precision), weights)
            if found is not None:
                return found[0]
    return PreparedEngine("torch", "cpu", "fp32", str(weights), sha256, "", "nothing compiled is at hand")


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
) -> tuple[PreparedEngine, ModelSpec]:
    folder = cache / "engines" / _key(digest, precision)
    found = _read_manifest(folder, weights)
    if found is None:
        _read_spec(weights)  # a file that is no model is told before anything is made
        shutil.rmtree(folder, ignore_errors=True)
        logger.info("preparing the engine for this machine (once, up to a minute)")
        _compile(weights, folder, precision, logger)
        found = _read_manifest(folder, weights)
    if found is not None:
        return found
    return _through_torch(weights, digest, "OpenVINO could not make an engine of it")


def _through_torch(weights: Path, digest: str, why: str) -> tuple[PreparedEngine, ModelSpec]:
    return PreparedEngine("torch", "cpu", "fp32", str(weights), digest, "", why), _read_spec(weights)


def _read_spec(weights: Path) -> ModelSpec:
    from trainer.weights import read_spec

    return read_spec(weights)


def _on_gpu(
    weights: Path, digest: str, device: str, precision: str, cache: Path, logger: logging.Logger
) -> tuple[PreparedEngine, ModelSpec]:
    """Return torch on a device in a precision that agrees with float32 there; it is sought once.

    Raises DeviceError if the device cannot be used.
    """
    parts = (digest, precision, device, str(ENGINE_FORMAT), importlib.metadata.version("torch"), _gpus())
    folder = cache / "engines" / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    found, trouble = _read_manifest(folder, weights), ""
    if found is None:
        _read_spec(weights)
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
    return WeightsError(line) if code == 4 else UsageError(line)


def _read_manifest(folder: Path, weights: Path) -> tuple[PreparedEngine, ModelSpec] | None:
    """Return a folder's engine and its model's spec, None when there is none or anything is in doubt."""
    try:
        stored = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if stored.pop("files") != _sizes(folder):
            return None
        for name, kind in (("network", Compiled), ("exact", Compiled), ("slack", Slack)):
            stored[name] = None if stored[name] is None else kind(**stored[name])
        names = {field.name for field in fields(PreparedEngine)}
        told = {name: stored[name] for name in names} | {"folder": str(folder), "weights": str(weights)}
        return PreparedEngine(**told), ModelSpec.from_json(stored["spec"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, WeightsError):
        return None


def write_manifest(folder: Path, prepared: PreparedEngine, spec: ModelSpec) -> None:
    """Write what `_read_manifest` reads, last of all the files of an engine.

    The spec is among it, so that a start need not open the weights file, whose library imports NumPy.
    """
    stored = asdict(prepared) | {"files": _sizes(folder), "spec": spec.to_json()}
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
