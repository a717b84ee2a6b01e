"""The bridge as the daemon sees it: a child process that speaks Dask, at the other end of a socket.

Nothing here waits: what the bridge does not read at once is kept until it does, so a bridge that was stopped
holds up nobody.
"""

from __future__ import annotations

import contextlib
import os
import subprocess

from daemon.frames import LENGTH, FrameReader
from daemon.process import spawn
from daemon.remote.wire import MOST_BYTES

# When its connection closes it tells the workers that it ends.
_END_SECONDS = 3.0


class BridgeProcess:
    """One bridge, from start to end."""

    def __init__(self) -> None:
        self._process, self.connection = spawn("daemon.remote.head.bridge_main")
        os.set_blocking(self.connection.fileno(), False)
        self._frames = FrameReader(MOST_BYTES)
        self._unsent = bytearray()

    def send(self, message: bytes) -> None:
        """Send a message, or keep it until the bridge reads; one that has died is noticed by `read`."""
        self._unsent += LENGTH.pack(len(message)) + message
        self.flush()

    def flush(self) -> None:
        """Send what was kept, as far as the bridge takes it."""
        with contextlib.suppress(OSError):
            while self._unsent:
                del self._unsent[: os.write(self.connection.fileno(), self._unsent)]

    def read(self) -> list[bytes]:
        """Return the messages that have come; raise EOFError, OSError or GarbledError when it has ended."""
        messages: list[bytes] = []
        while self.connection.poll():
            messages += self._frames.read(self.connection.fileno())
        self.flush()
        return messages

    def close(self) -> int | None:
        """End the bridge; return how it ended (subprocess's return code), None if it had to be killed."""
        self.connection.close()
        ended: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            ended = self._process.wait(_END_SECONDS)
        self._process.kill()
        self._process.wait()
        return ended
