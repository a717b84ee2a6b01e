"""Objects a second over two associations: `bt-daemon listen` beside the storescp of pynetdicom and of DCMTK.

    python -m tests.benchmark.receive [--objects 400] [--rounds 3] [--dcmtk /usr/bin] [--json FILE]

DCMTK takes part, as receiver and as sender, where --dcmtk names the folder of its programs (pynetdicom's have
the same names). Receivers take turns in each round, after one to warm up that is not counted; a figure is the
median of the rounds. bt-daemon answers when an object is on the disk (two fsync each), the others when they
have written it; they compare and hash nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from pydicom import dcmread
from pynetdicom import _config

from tests.conftest import REPOSITORY
from tests.support.daemons import until
from tests.support.dicom_objects import mr_slice, planted, real_slices
from tests.support.listeners import TITLE, associated, caller, free_port, proposed

_SIDE = 256
_PATIENCE_SECONDS = 600.0

Sender = Callable[[int, list[list[Path]]], float]


def main() -> int:
    """Measure, print a line for each pair of receiver and sender, and return 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dcmtk", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    receivers: dict[str, Any] = {"bt-daemon listen": _bt_daemon, "pynetdicom storescp": _pynetdicom}
    senders: dict[str, Sender] = {"pynetdicom": _send_by_pynetdicom}
    if options.dcmtk is not None:
        receivers["DCMTK storescp"] = partial(_dcmtk, options.dcmtk)
        senders["DCMTK storescu"] = partial(_send_by_dcmtk, options.dcmtk)
    with tempfile.TemporaryDirectory(prefix="bt-receive-") as name:
        halves = _objects(Path(name), options.objects)
        told = [
            {"sender": sender, **one}
            for sender, send in senders.items()
            for one in _measured(Path(name), receivers, send, halves, options.rounds)
        ]
    for one in told:
        print(json.dumps(one))
    if options.json:
        figures = {
            "objects": options.objects, "rounds": options.rounds, "cores": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 1), "runs": told,
        }  # fmt: skip
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _objects(folder: Path, number: int) -> list[list[Path]]:
    """Write objects, half of them real where there are real ones, into a folder for each association."""
    real = real_slices()
    halves: list[list[Path]] = [[], []]
    for count in range(number):
        half = halves[count % 2]
        place = folder / f"objects-{count % 2}"
        place.mkdir(exist_ok=True)
        is_real = real and count % 4 < 2
        dataset = (
            planted(dcmread(real[count // 4 % len(real)]), count) if is_real else mr_slice(count, size=_SIDE)
        )
        half.append(place / f"{count:05}.dcm")
        dataset.save_as(half[-1], enforce_file_format=True)
    return halves


def _measured(
    folder: Path, receivers: dict[str, Any], send: Sender, halves: list[list[Path]], rounds: int
) -> list[dict[str, Any]]:
    speeds: dict[str, list[float]] = {name: [] for name in receivers}
    costs: dict[str, list[float]] = {name: [] for name in receivers}
    objects = sum(map(len, halves))
    for turn in range(rounds + 1):
        for name, command in receivers.items():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                port = free_port()
                receiver = subprocess.Popen(
                    command(place, port), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                try:
                    until(partial(_answers, port))
                    before = _cpu_seconds(receiver.pid)
                    seconds = send(port, halves)
                    cost = _cpu_seconds(receiver.pid) - before
                finally:
                    receiver.terminate()
                    receiver.wait(30)
                if len(os.listdir(place)) != objects:
                    raise SystemExit(f"{name}: {len(os.listdir(place))} of {objects} objects arrived")
            if turn:
                speeds[name].append(objects / seconds)
                costs[name].append(cost / objects * 1e3)
    return [
        {
            "receiver": name, "objects_per_second": round(median(found), 1),
            "runs": [round(one, 1) for one in found], "receiver_cpu_ms": round(median(costs[name]), 2),
        }
        for name, found in speeds.items()
    ]  # fmt: skip


def _bt_daemon(place: str, port: int) -> list[str]:
    return [sys.executable, "-m", "daemon.cli", "listen", place, "--port", str(port), "--aet", TITLE]


def _pynetdicom(place: str, port: int) -> list[str]:
    return [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-od", place, "-aet", TITLE, "-q"]


def _dcmtk(programs: Path, place: str, port: int) -> list[str]:
    # +xa: any transfer syntax; --fork: an association each, as the others; -fe: names with .dcm.
    options = ["--fork", "+xa", "-aet", TITLE, "-od", place, "-fe", ".dcm", str(port)]
    return [str(programs / "storescp"), *options]


def _answers(port: int) -> bool:
    with socket.socket() as door:
        return door.connect_ex(("127.0.0.1", port)) == 0


def _cpu_seconds(pid: int) -> float:
    """Return the CPU-seconds of a process and its children, those that have ended too."""
    process = psutil.Process(pid)
    times = [process.cpu_times(), *(child.cpu_times() for child in process.children(recursive=True))]
    return sum(one.user + one.system for one in times) + times[0].children_user + times[0].children_system


def _send_by_pynetdicom(port: int, halves: list[list[Path]]) -> float:
    """Send by two processes, an association each; return the seconds from first object to last answer."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(len(halves) + 1)
    senders = [context.Process(target=_send_half, args=(port, half, together)) for half in halves]
    for one in senders:
        one.start()
    together.wait(_PATIENCE_SECONDS)
    began = time.perf_counter()
    for one in senders:
        one.join(_PATIENCE_SECONDS)
    seconds = time.perf_counter() - began
    if any(one.exitcode for one in senders):
        raise SystemExit("an object was not stored")
    return seconds


def _send_half(port: int, paths: list[Path], together: Any) -> None:
    warnings.simplefilter("ignore")
    _config.STORE_SEND_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"
    with associated(port, caller(proposed(paths))) as association:
        together.wait(_PATIENCE_SECONDS)
        stored = [association.send_c_store(path).Status for path in paths]
        if any(stored):
            sys.exit(1)


def _send_by_dcmtk(programs: Path, port: int, halves: list[list[Path]]) -> float:
    """Send by two processes of storescu; return the seconds they took."""
    began = time.perf_counter()
    # -R: propose what is needed.
    command = [str(programs / "storescu"), "-R", "-aec", TITLE, "127.0.0.1", str(port), "+sd"]
    senders = [subprocess.Popen([*command, str(half[0].parent)]) for half in halves]
    codes = [one.wait(_PATIENCE_SECONDS) for one in senders]
    if any(codes):
        raise SystemExit("an object was not stored")
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
