"""Wake the daemon's one thread: a pipe that signals and the file watcher write to."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Waker:
    """A self-pipe: `wake()` from any thread or signal handler ends a `wait()`."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def wake(self) -> None:
        """End the current or the next wait; never blocks, never raises."""
        with contextlib.suppress(OSError):  # full: a wake-up is waiting already; closed: nobody waits
            os.write(self._write, b"\0")

    def wait(self, others: Sequence[Connection | int | Any], timeout: float | None) -> None:
        """Wait until woken, until one of `others` can be read, or for `timeout` seconds."""
        if self._read in wait([*others, self._read], timeout):
            with contextlib.suppress(BlockingIOError):
                while os.read(self._read, 4096):
                    pass

    @property
    def write_end(self) -> int:
        """The descriptor for `signal.set_wakeup_fd`."""
        return self._write

    def close(self) -> None:
        """Close both ends."""
        os.close(self._read)
        os.close(self._write)


class StopSignal:
    """Turns SIGTERM and SIGINT into a request to finish; a second one ends the process at once.

    SIGHUP (a closed terminal, or somebody who expects a reload) is only counted: the work goes on.
    """

    def __init__(self, waker: Waker) -> None:
        self.requested = False
        self.hangups = 0
        self._waker = waker
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1

    def __enter__(self) -> StopSignal:
        self._wakeup_before = signal.set_wakeup_fd(self._waker.write_end, warn_on_full_buffer=False)
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def request(self) -> None:
        """Ask the daemon to finish, as a signal would."""
        self.requested = True
        self._waker.wake()

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's signature
        if self.requested:
            os._exit(128 + number)
        self.requested = True

    def _hang_up(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's signature
        self.hangups += 1
