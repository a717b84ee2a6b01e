"""Log: one line per cause, on stderr, as text or JSON."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from typing import TextIO

from config.errors import UsageError
from config.text import printable

LOGGER_NAME = "bt-daemon"
# A cause that goes on (a disk that stays full, a thousand unreadable files) is said again at most
# this often, with the number of times it was kept back.
REPEAT_SECONDS = 60.0
# A log file is renamed to .1 ... when it has grown so large, and the oldest is removed.
FILE_BYTES = 10 << 20
FILES_KEPT = 5
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


def set_up_log(verbosity: int, form: str, stream: TextIO | None = None, *, file: str = "") -> logging.Logger:
    """Return the program's logger: -q warnings only, -v debug; `form` is text or json.

    `file` gets the same lines as the stream; raises UsageError if it cannot be written.
    """
    logger = logging.getLogger(LOGGER_NAME)
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(_level(verbosity))
    handler = _Stderr() if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(_JsonLine() if form == "json" else _TextLine())
    logger.addHandler(handler)
    if file:
        try:
            kept = _LogFile(file, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"--log-file: {printable(file)} cannot be written ({error.strerror})",
                hint="name a file in a folder that is there",
            ) from error
        kept.setFormatter(handler.formatter)
        logger.addHandler(kept)
    return logger


@contextmanager
def thread_failures_told(logger: logging.Logger) -> Iterator[None]:
    """Tell of a thread that ended with an exception in one line, instead of a traceback among the log's.

    Only the file watcher's threads are not ours; the inbox notices that one is gone and starts it again.
    """

    def tell(failure: threading.ExceptHookArgs) -> None:
        name = failure.thread.name if failure.thread is not None else "?"
        why = f"{failure.exc_type.__name__}: {printable(str(failure.exc_value))}"
        logger.warning("a thread of the file watcher (%s) ended: %s; it is started again", name, why)

    before, threading.excepthook = threading.excepthook, tell
    try:
        yield
    finally:
        threading.excepthook = before


class CauseLog:
    """Logs a repeated cause once, and later how often it came again."""

    def __init__(self, logger: logging.Logger, monotonic: Callable[[], float]) -> None:
        self._logger = logger
        self._monotonic = monotonic
        self._said: dict[str, tuple[float, int]] = {}  # cause -> (last said, kept back since)

    def __call__(self, cause: str, message: str, level: int = logging.WARNING) -> None:
        """Log `message` unless its `cause` was logged within REPEAT_SECONDS."""
        now = self._monotonic()
        last, kept = self._said.get(cause, (-REPEAT_SECONDS, 0))
        if now - last < REPEAT_SECONDS:
            self._said[cause] = (last, kept + 1)
            return
        again = f" ({kept} more times since the last line)" if kept else ""
        self._said[cause] = (now, 0)
        self._logger.log(level, "%s%s", message, again, extra={"event": _event(cause)})

    def over(self, cause: str, message: str) -> None:
        """Log that a cause has ended, if it was ever logged."""
        if self._said.pop(cause, None) is not None:
            self._logger.info("%s", message, extra={"event": f"{_event(cause)}_over"})


def stderr_failed(error: OSError) -> None:
    """Write to nowhere from now on if the terminal or the reader of a pipe has gone: the work goes on.

    A full disk under a log file may get room again.
    """
    terminal = error.errno == errno.EIO and stat.S_ISCHR(os.fstat(2).st_mode)
    if terminal or error.errno == errno.EPIPE:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)


class _LogFile(RotatingFileHandler):
    """A file for its owner alone; a full disk silences it until there is room, and stops nothing."""

    def _open(self) -> TextIOWrapper:
        handle = os.open(self.baseFilename, _APPEND, 0o600)
        return open(handle, "a", encoding=self.encoding, errors=self.errors)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what is stderr at that moment: a progress bar puts itself in its place."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            stderr_failed(error)
        else:
            super().handleError(record)


def _level(verbosity: int) -> int:
    if verbosity < 0:
        return logging.WARNING if verbosity == -1 else logging.ERROR
    return logging.DEBUG if verbosity > 0 else logging.INFO


class _TextLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).astimezone()
        return f"{when:%Y-%m-%d %H:%M:%S%z} {record.levelname.lower():<7} {printable(record.getMessage())}"


def _event(cause: str) -> str:
    """Return a cause as an event's name; one that holds a place or a text is told apart by its message."""
    return f"cause_{cause}" if cause.isidentifier() else "cause"


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": when.isoformat(),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "notice"),
            "message": printable(record.getMessage()),
            **getattr(record, "fields", {}),
        }
        return json.dumps(line, ensure_ascii=False)
