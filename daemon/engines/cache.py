"""Engine cache: made from the weights file once, checked, rebuilt when in doubt.

The weights file is the truth, an engine is a cache. `prepare_engine` runs in the daemon's parent
process and imports neither torch nor OpenVINO, and NumPy only when there is an engine to make, which
happens in a process of its own (`daemon.engines.build_openvino`).
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from config.errors import BtError, DeviceError, UsageError, WeightsError
from config.extras import install_hint, installed
from config.files import atomic_write
from config.text import printable
from daemon.engines.manifest import Compiled, ErrorBound, PreparedEngine
from daemon.process import child_environment
from trainer.model.identity import weights_sha256
from trainer.model.spec import ModelSpec

# Changed when engines are made differently, so that no stale one is used.
ENGINE_FORMAT = 8
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
    if where != "cpu" and not _is_foreign(weights, device):
        return _on_gpu(weights, digest, where, precision, cache, logger)
    if not installed("openvino"):
        if _is_foreign(weights, device):
            raise UsageError(
                "an ONNX network needs OpenVINO, which is not installed", hint="pip install openvino"
            )
        return _through_torch(weights, digest, "OpenVINO is not installed", logger)
    return _compiled(weights, digest, precision, cache, logger)


def _is_foreign(weights: Path, device: str) -> bool:
    """Whether a network was not trained here; raise UsageError if a GPU is to compute it."""
    if _read_spec(weights).foreign is None:
        return False
    if device.startswith("cuda"):
        raise UsageError("an ONNX network is computed on the CPU", hint="use --device cpu or auto")
    return True


def engine_for_drawing(weights: Path, sha256: str, cache: Path) -> PreparedEngine:
    """Return an engine of a model for drawing: one that is there already, else one that is kept nowhere.

    Whoever waits for a picture is not made to wait until engines have been compared.
    """
    if not installed("openvino"):
        return PreparedEngine("torch", "cpu", "fp32", str(weights), sha256, "", "OpenVINO is not installed")
    for precision in ("auto", "fp32", "bf16"):
        found = _read_manifest(cache.resolve() / "engines" / _key(sha256, precision), weights)
        if found is not None:
            return found[0]
    return _kept_nowhere(weights, sha256, "nothing compiled is at hand")[0]


def pick_device(wanted: str) -> str:
    """Return "cpu" or "cuda:N" for auto, cpu or cuda[:N]; the parent process does not import torch for it."""
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d+))?", wanted)
    if match is None or (match[2] is not None and match[1] != "cuda"):
        raise UsageError(f"{printable(repr(wanted))} is no device", hint="write auto, cpu or cuda[:N]")
    if match[1] == "cpu":
        return "cpu"
    if match[1] == "cuda" and not installed("torch"):
        raise UsageError(f"--device {wanted} needs torch, which is not installed", hint=install_hint("cuda"))
    count = _cuda_devices()
    if match[1] == "auto":
        return "cuda:0" if count else "cpu"
    number = int(match[2] or 0)
    if number >= count:
        raise DeviceError(
            f"there is no CUDA device {number} here ({count} found)", hint="use --device cpu or --device auto"
        )
    return f"cuda:{number}"


def _cuda_devices() -> int:
    """Count CUDA devices; torch is asked only if the machine has an NVIDIA device at all."""
    if not list(Path("/dev").glob("nvidia[0-9]*")) or not installed("torch"):
        return 0
    script = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdigit() else 0


def _compiled(
    weights: Path, digest: str, precision: str, cache: Path, logger: logging.Logger
) -> tuple[PreparedEngine, ModelSpec]:
    folder = cache.resolve() / "engines" / _key(digest, precision)
    found = _read_manifest(folder, weights)
    if found is None:
        _read_spec(weights)  # a file that is no model is told before anything is made
        with _alone(folder, logger) as lock:
            found = _read_manifest(folder, weights) or _make_compiled(
                weights, folder, precision, lock, logger
            )
    return found or _kept_nowhere(weights, digest, "no compiled engine could be kept")


def _make_compiled(
    weights: Path, folder: Path, precision: str, lock: Sequence[int], logger: logging.Logger
) -> tuple[PreparedEngine, ModelSpec] | None:
    _clear(folder, logger)
    began = time.monotonic()
    with _counting_seconds("preparing the engine for this machine, once: some seconds", logger):
        trouble = _make("daemon.engines.build_openvino", (str(weights), str(folder), precision), lock)
    if trouble and _read_spec(weights).foreign is not None:
        raise WeightsError(f"no engine can be made of the network ({printable(trouble)})")
    if trouble:
        logger.warning(
            "the engine could not be kept (%s): every worker compiles it for itself", printable(trouble)
        )
    found = _read_manifest(folder, weights)
    if found is not None:
        logger.info("the engine is ready after %.1f s", time.monotonic() - began)
    return found


@contextmanager
def _counting_seconds(what: str, logger: logging.Logger) -> Iterator[None]:
    """Say what takes a while: at a terminal in one line that counts the seconds, else in the log."""
    if not sys.stderr.isatty() or not logger.isEnabledFor(logging.INFO):
        logger.info(what)
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(TextColumn(what), TimeElapsedColumn(), console=console, transient=True) as progress:
        progress.add_task("", total=None)
        yield


def _kept_nowhere(weights: Path, digest: str, why: str) -> tuple[PreparedEngine, ModelSpec]:
    """Return OpenVINO's engine that every process compiles for itself; torch's for torchvision's networks."""
    from trainer.model.layers import is_described

    spec = _read_spec(weights)
    if is_described(spec.architecture) or spec.foreign is not None:
        return PreparedEngine("openvino", "cpu", "fp32", str(weights), digest, "", why), spec
    return _through_torch(weights, digest, why, None)


def _through_torch(
    weights: Path, digest: str, why: str, logger: logging.Logger | None
) -> tuple[PreparedEngine, ModelSpec]:
    """Return torch's engine on the CPU; raise UsageError if torch is not installed."""
    spec = _read_spec(weights)
    if not installed("torch"):
        raise UsageError(
            f"{why}, and torch, which could do without, is not installed", hint=install_hint("cuda")
        )
    if logger is not None:
        logger.warning("%s: torch is used instead, which is slower", why)
    return PreparedEngine("torch", "cpu", "fp32", str(weights), digest, "", why), spec


def _read_spec(weights: Path) -> ModelSpec:
    """Return the spec of a weights file that was read whole: what is no model is refused at once."""
    from trainer.model.weights import read_weights

    return read_weights(weights).spec


def _on_gpu(
    weights: Path, digest: str, device: str, precision: str, cache: Path, logger: logging.Logger
) -> tuple[PreparedEngine, ModelSpec]:
    """Return torch on a device in a precision that agrees with float32 there; it is sought once.

    Raises DeviceError if the device cannot be used.
    """
    parts = (digest, precision, device, str(ENGINE_FORMAT), importlib.metadata.version("torch"), _gpus())
    folder = cache.resolve() / "engines" / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    found, trouble = _read_manifest(folder, weights), ""
    if found is None:
        _read_spec(weights)
        with _alone(folder, logger) as lock:
            found = _read_manifest(folder, weights)
            if found is None:
                _clear(folder, logger)
                what = f"looking for the fastest precision on {device}, once: up to a minute"
                with _counting_seconds(what, logger):
                    arguments = (str(weights), str(folder), precision, device)
                    trouble = _make("daemon.engines.build_torch", arguments, lock)
                found = _read_manifest(folder, weights)
    if found is None:
        trouble = trouble or f"nothing can be written to {cache}"
        raise DeviceError(
            f"{device} cannot be used ({printable(trouble)})", hint="use --device cpu; see bt-daemon doctor"
        )
    return found


@contextmanager
def _alone(folder: Path, logger: logging.Logger) -> Iterator[Sequence[int]]:
    """Hold the lock of one engine, so that of several daemons that start at once one makes it.

    Yields the descriptor, which the process that makes the engine inherits: should this one be killed
    meanwhile, the lock lasts until that one has ended as well.
    """
    with ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, descriptor)
            _lock(descriptor, logger)
        except OSError:  # a folder that cannot be written to is told when the engine is made
            yield ()
        else:
            yield (descriptor,)


def _lock(descriptor: int, logger: logging.Logger) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.info("waiting for another process that is preparing the engine")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _clear(folder: Path, logger: logging.Logger) -> None:
    """Remove an engine that cannot be trusted, or that somebody began to make."""
    if (folder / MANIFEST).exists():
        logger.warning("the compiled engine in %s is damaged: it is made again", printable(str(folder)))
    shutil.rmtree(folder, ignore_errors=True)


def _make(module: str, arguments: Sequence[str], lock: Sequence[int]) -> str:
    """Run a module that makes an engine's folder; return in words why it could not, '' if it did."""
    try:
        Path(arguments[1]).parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], pass_fds=lock,
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
        # The compiled forms are found by the path they were made under: a folder from elsewhere has none.
        if stored.pop("sha256") != _own_sha256(stored) or stored["folder"] != str(folder):
            return None
        if any(_sha256(folder / name) != digest for name, digest in stored.pop("files").items()):
            return None
        for name, kind in (("network", Compiled), ("exact", Compiled), ("slack", ErrorBound)):
            stored[name] = None if stored[name] is None else kind(**stored[name])
        names = {field.name for field in fields(PreparedEngine)}
        told = {name: stored[name] for name in names} | {"weights": str(weights)}
        return PreparedEngine(**told), ModelSpec.from_json(stored["spec"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, WeightsError):
        return None


def write_manifest(folder: Path, prepared: PreparedEngine, spec: ModelSpec) -> None:
    """Write what `_read_manifest` reads, last of all the files of an engine.

    The spec is among it, so that a start need not open the weights file, whose library imports NumPy.
    """
    files = {
        str(path.relative_to(folder)): _sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
    stored = asdict(replace(prepared, folder=str(folder))) | {"files": files, "spec": spec.to_json()}
    with atomic_write(folder / MANIFEST) as stream:
        stream.write(json.dumps(stored | {"sha256": _own_sha256(stored)}).encode())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _own_sha256(stored: Mapping[str, Any]) -> str:
    """Return the sha256 of what a manifest says, apart from this."""
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()


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
