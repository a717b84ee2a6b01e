"""systemd notification protocol: ready, status, watchdog, stopping (sd_notify(3), NOTIFY_SOCKET).

The watchdog is fed only from a turn of the daemon's loop, and only while not all workers are stuck: a hung
worker is replaced by the pool, a daemon whose loop or workers all hang by systemd.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.service.service import Service

_STATUS_SECONDS = 5.0
_SEND_SECONDS = 0.2  # a manager that does not read is not waited for


class SystemdNotifier:
    """Tells the service manager how the daemon is; a watcher of the service's turns."""

    def __init__(
        self,
        address: str,
        watchdog_seconds: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`address` is a path, or begins with @ for an abstract socket."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._every = None if watchdog_seconds is None else watchdog_seconds / 3
        self._monotonic = monotonic
        self.is_stopping: Callable[[], bool] = lambda: False  # whether the daemon was asked to end
        self._ready = self._stopped = False
        self._fed = self._said = float("-inf")

    @classmethod
    def of(cls, environ: Mapping[str, str], pid: int) -> SystemdNotifier | None:
        """Return what the environment of a started unit asks for, None outside of one."""
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return None
        microseconds = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        return cls(address, int(microseconds) / 1e6 if mine and microseconds.isdigit() else None)

    def turned(self, service: Service) -> None:
        """Say what is to be said in this turn of the loop."""
        now = self._monotonic()
        if self.is_stopping() and not self._stopped:
            self._stopped = True
            self._send("STOPPING=1")
        census = service.workers.census()
        if not self._ready and service.workers.ready:
            self._ready = True
            self._send("READY=1")
        answers = census.wanted == 0 or census.stuck < census.wanted
        if self._every is not None and answers and now - self._fed >= self._every:
            self._fed = now
            self._send("WATCHDOG=1")
        if now - self._said >= _STATUS_SECONDS:
            self._said = now
            self._send(f"STATUS={_status(service)}")

    def _send(self, message: str) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(_SEND_SECONDS)
            sender.sendto(message.encode(), self._address)


def _status(service: Service) -> str:
    """Return one line without a name or path."""
    counters, census = service.counters, service.workers.census()
    return (
        f"{counters.judged} judged, {counters.failed} errors since the start; "
        f"{census.ready} of {census.wanted} workers ready"
    )
