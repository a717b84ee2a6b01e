"""Ask a process of our own that decodes files, and replace it when one makes it hang, grow or die."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

from daemon.process import spawn

_Answer = TypeVar("_Answer")

READY = b"ready"
_START_SECONDS = 60.0  # it needs less than a second; one that takes this long is stuck
# A worker that dies this often in a row without having answered anything will not do better.
_MOST_STILLBIRTHS = 3


class NoAnswerError(Exception):
    """No process answered; its words say why in one line."""


class PictureProcess:
    """One process, which answers one question at a time; for one thread."""

    def __init__(self, module: str, setup: object, *, seconds: float, most_bytes: int) -> None:
        """`module` is run; it takes `setup` first, says READY, then answers with `most_bytes` at most."""
        self._module = module
        self._setup = setup
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._stillborn = 0

    def ask(
        self, question: object, decode: Callable[[bytes], _Answer], seconds: float | None = None
    ) -> _Answer:
        """Return the answer to a question; `seconds` instead of the usual limit. Raises NoAnswerError.

        `decode` raises ValueError for what is no answer. A worker may die for a reason of its own; a
        question over which a second one dies is to blame.
        """
        seconds = self._seconds if seconds is None else seconds
        for _ in range(2):
            connection = self._ready()
            if connection is None:
                raise NoAnswerError("the drawing process does not start (bt-daemon doctor)")
            try:
                connection.send(question)
                if not connection.poll(seconds):
                    self.close()
                    raise NoAnswerError(f"took longer than {seconds:g} s to draw")
                return decode(connection.recv_bytes(self._most_bytes))
            except (EOFError, OSError, ValueError):
                self.close()
        raise NoAnswerError("crashed the decoder")

    @property
    def process_id(self) -> int | None:
        """The worker's, None while there is none."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the worker; the next question starts another."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._connection = None

    def _ready(self) -> Connection | None:
        if self._connection is not None:
            return self._connection
        if self._stillborn >= _MOST_STILLBIRTHS:
            return None
        self._process, self._connection = spawn(self._module)
        with contextlib.suppress(EOFError, OSError):
            self._connection.send(self._setup)
            begun = self._connection.poll(_START_SECONDS)
            if begun and self._connection.recv_bytes(len(READY)) == READY:
                self._stillborn = 0
                return self._connection
        self.close()
        self._stillborn += 1
        return self._ready()
