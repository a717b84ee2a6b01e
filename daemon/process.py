"""Child processes: started at the other end of a socket, confined to bounded memory and a living parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def child_environment() -> dict[str, str]:
    """Return the environment of our own child processes: same import path, one thread per library."""
    ours = str(Path(__file__).resolve().parent.parent)
    paths = [ours, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(paths)}


def spawn(
    module: str, *arguments: str, pass_fds: Sequence[int] = ()
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Run a module of ours in a process of its own; return it and our end of the socket to it.

    Its arguments are the descriptor of its end, then those given; it inherits `pass_fds`. What it writes to
    stdout is thrown away, stderr is ours.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno()), *arguments],
            pass_fds=(theirs.fileno(), *pass_fds),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=child_environment(),
        )
    return process, Connection(ours.detach())


def limit_memory(allowed: int) -> None:
    """Bound what may be allocated from now on (bytes): too much is a MemoryError, not a swapping machine."""
    try:
        fields = Path("/proc/self/statm").read_text().split()
        used = int(fields[5]) * resource.getpagesize()  # data and stack, what RLIMIT_DATA counts
        resource.setrlimit(resource.RLIMIT_DATA, (used + allowed, resource.RLIM_INFINITY))
    except (OSError, ValueError, IndexError):
        return


def return_free_memory() -> None:
    """Give the kernel back what the C library keeps of memory that was freed, as after a start."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def leave_stopping_to_the_parent() -> None:
    """Ignore what a terminal or a service manager sends to the whole group: the daemon ends its own."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def die_with_the_parent() -> None:
    """Ask the kernel to end this process with its parent, should that be killed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:
        sys.exit(0)


def end_with_the_connection(descriptor: int) -> None:
    """End this process at once when the other end of its socket closes, whatever it is doing then.

    For a parent with threads: the kernel's signal comes already when the thread that started us ends.
    """
    threading.Thread(target=_end_at_hang_up, args=(descriptor,), daemon=True).start()


def _end_at_hang_up(descriptor: int) -> None:
    hang_up = select.poll()
    hang_up.register(descriptor, 0)  # a closed connection is told even so
    hang_up.poll()
    os._exit(0)
