"""The machine itself: memory, the kernel's watches, the clock."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from config.text import printable
from daemon.doctor.finding import Found, Level, Surroundings, existing_parent
from daemon.output.cells import size_text

LOW_MEMORY_BYTES = 1 << 30
# The program is younger than this; a clock that is not was never set.
EARLIEST_CLOCK = 1_735_689_600  # 2025-01-01T00:00:00Z
# Folders counted below an inbox before the count is given up: the answer is "many" by then.
COUNTED_FOLDERS = 200_000
INOTIFY = Path("/proc/sys/fs/inotify")


def memory(_: Surroundings) -> Iterator[Found]:
    """How much memory the workers may have."""
    available = _available_memory()
    if available is None:
        return
    fact = f"{size_text(available)} of memory available, {os.cpu_count()} cores"
    if available < LOW_MEMORY_BYTES:
        yield Level.WARN, fact, "close other programs, or run with --lanes 1"
    else:
        yield Level.OK, fact, ""


def _available_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def inotify(around: Surroundings) -> Iterator[Found]:
    """Whether the kernel has watches enough for the inboxes; without them folders are polled."""
    limits = {
        name: _number(INOTIFY / name)
        for name in ("max_user_watches", "max_user_instances", "max_queued_events")
    }
    watches = limits["max_user_watches"]
    if watches is None:
        yield (
            Level.WARN,
            "this system has no inotify: folders are polled",
            "nothing to do; new images take longer to be seen",
        )
        return
    told = ", ".join(f"{name} {number}" for name, number in limits.items())
    needed = sum(_count_folders(folder) for folder in around.folders)
    if needed > watches * 0.8:
        yield (
            Level.WARN,
            f"the inboxes have {needed} folders, the kernel allows {watches} watches: the rest is polled",
            f"sysctl fs.inotify.max_user_watches={max(needed * 2, 524_288)}",
        )
    elif not _inotify_opens():
        yield (
            Level.WARN,
            f"no inotify instance is left ({told}): folders are polled",
            "sysctl fs.inotify.max_user_instances=1024",
        )
    else:
        yield Level.OK, told, ""


def _inotify_opens() -> bool:
    import ctypes

    handle = int(ctypes.CDLL(None, use_errno=True).inotify_init1(os.O_CLOEXEC))
    if handle >= 0:
        os.close(handle)
    return handle >= 0


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _count_folders(root: Path) -> int:
    count = 0
    for _ in os.walk(root):
        count += 1
        if count >= COUNTED_FOLDERS:
            break
    return count


def clock(around: Surroundings) -> Iterator[Found]:
    """Whether the clock was ever set, and agrees with the file system's."""
    from config.when import local_zone

    now = time.time()
    if now < EARLIEST_CLOCK:
        yield (
            Level.FAIL,
            f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}",
            "set the clock (timedatectl set-ntp true)",
        )
        return
    skew = _file_clock_skew(existing_parent(Path(around.settings.cache)))
    if skew is not None and abs(skew) > 5:
        yield (
            Level.WARN,
            f"the file system's clock is {skew:+.0f} s off this machine's",
            "synchronise both (NTP)",
        )
    yield Level.OK, f"{time.strftime('%Y-%m-%d %H:%M:%S%z')}, zone {printable(str(local_zone()))}", ""


def _file_clock_skew(folder: Path) -> float | None:
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
            probe.flush()
            return os.fstat(probe.fileno()).st_mtime - time.time()
    except OSError:
        return None
