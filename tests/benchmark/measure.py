"""What a program costs: wall time, CPU-seconds and peak memory of its whole process tree."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_POLL_SECONDS = 0.02
# Looking at memory takes the kernel 20 ms for a daemon with two workers, from the cores that are measured: of
# one core it may take so much.
_LOOKING_SHARE = 0.02
_LIMIT_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took."""

    wall_seconds: float
    cpu_seconds: float
    peak_megabytes: float  # proportional set size: memory that processes share counts once


def run(command: Sequence[str], log: Path, environment: dict[str, str]) -> Cost:
    """Run a command to its end and return what it cost; raise if it failed or never ended."""
    peak, next_look = 0, 0.0
    with log.open("wb") as stream:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        while True:
            looked = time.perf_counter()
            if looked >= next_look:
                with contextlib.suppress(psutil.Error):
                    peak = max(peak, _memory(process.pid))
                next_look = looked + (time.perf_counter() - looked) / _LOOKING_SHARE
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.perf_counter() - began > _LIMIT_SECONDS:
                process.kill()
                process.wait()
                raise TimeoutError(f"{command} did not end within {_LIMIT_SECONDS:.0f} s")
            time.sleep(_POLL_SECONDS)
        wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {log.read_text()[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak / 1e6)


def _memory(pid: int) -> int:
    root = psutil.Process(pid)
    total = 0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total
