"""The process that owns a device, as the daemon sees it: started, given the workers, replaced, ended."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
from multiprocessing import reduction
from multiprocessing.connection import Connection

from config.text import printable
from daemon.frames import FrameReader, GarbledError
from daemon.process import spawn
from daemon.workers.messages import ENDED, EngineSetup
from daemon.workers.restarts import from_outside, in_words

# The kernel takes a killed process off a GPU in moments; one that stays longer hangs in the driver, and
# waiting for it would only make the daemon hang too.
_END_SECONDS = 5.0
# Its remarks are lines of text.
_MOST_BYTES = 1 << 16


class GpuOwner:
    """One engine process for all workers; for one single-threaded caller."""

    def __init__(self, logger: logging.Logger) -> None:
        """Start the process: it imports what it needs while it waits for `begin`."""
        self._logger = logger
        self._setup: EngineSetup | None = None
        self._reason = ""
        self.killed = False  # whether the last process that ended was killed from outside
        self._open()

    def _open(self) -> None:
        self._process, self.control = spawn("daemon.workers.gpu_main")
        self._frames = FrameReader(_MOST_BYTES)

    def begin(self, setup: EngineSetup) -> None:
        """Tell the process what to open."""
        self._setup = setup
        with contextlib.suppress(OSError):  # one that died at once is noticed by `listen`
            self.control.send(setup)

    def connect(self, worker: Connection) -> None:
        """Give a worker and the process the two ends of a new socket.

        If the process is dead the worker finds its end closed. Raises OSError if the worker is dead.
        """
        near, far = socket.socketpair()
        with near, far:
            with contextlib.suppress(OSError):
                reduction.send_handle(self.control, near.fileno(), self._process.pid)
            reduction.send_handle(worker, far.fileno(), 0)

    def listen(self) -> bool:
        """Log what the process has remarked; return False if it has ended, or talks as it never does."""
        try:
            while self.control.poll():
                for message in self._frames.read(self.control.fileno()):
                    self._hear(message)
        except (EOFError, OSError, GarbledError):
            return False
        return True

    def _hear(self, message: bytes) -> None:
        text = printable(message[1:].decode(errors="replace"))
        if message[:1] == ENDED:
            self._reason = text
        else:
            self._logger.warning("%s", text)

    def close(self) -> str:
        """End the process and return in words why it ended, if it did so by itself."""
        self.listen()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.1 if self._reason else 0)
        code = self._process.poll()
        self.killed = code is not None and from_outside(code) and not self._reason
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self.control.close()
        return self._reason or ("it did not answer" if code is None else in_words(code))

    def restart(self) -> None:
        """Start another process in the place of one that was closed."""
        self._reason = ""
        self._open()
        if self._setup is not None:
            self.begin(self._setup)
