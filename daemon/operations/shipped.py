"""Files for operators that come with the program: alert rules, dashboard, compose file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from config.errors import BtError, UsageError
from config.files import atomic_write
from config.text import printable

# In the order in which they are needed; what each is for.
SHIPPED = {
    "alerts.yml": "alert rules for Prometheus",
    "dashboard.json": "a dashboard for Grafana (Dashboards, New, Import)",
    "compose.yml": "the daemon, its page and Prometheus in containers",
    "prometheus.yml": "the configuration of that Prometheus",
}


def shipped_text(name: str) -> str:
    """Return a file's content; raise UsageError for a name that none has."""
    if name not in SHIPPED:
        raise UsageError(f"there is no file {printable(name)}", hint=f"there are {', '.join(SHIPPED)}")
    return resources.files("daemon.operations").joinpath(name).read_text(encoding="utf-8")


def write_shipped(folder: Path) -> list[Path]:
    """Write all files into a folder, which is made if need be; return those that were not there yet.

    Raises UsageError, before anything is written, where a file was changed by somebody; BtError where the
    folder cannot be written.
    """
    texts = {folder / name: shipped_text(name) for name in SHIPPED}
    try:
        there = [path for path in texts if path.exists()]
        changed = [path for path in there if path.read_bytes() != texts[path].encode()]
        if changed:
            raise UsageError(
                f"{printable(str(changed[0]))} differs from the file that comes with this version",
                hint="name another folder and compare, or move it away",
            )
        folder.mkdir(parents=True, exist_ok=True)
        new = [path for path in texts if path not in there]
        for path in new:
            with atomic_write(path, mode=0o644) as stream:
                stream.write(texts[path].encode())
    except OSError as error:
        raise BtError(f"cannot write to {printable(str(folder))} ({error.strerror})") from error
    return new
