"""Write to stdout, or to a file that appears whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from config.errors import BtError
from config.files import atomic_write
from config.text import printable


@contextmanager
def binary_sink(path: Path | None) -> Iterator[BinaryIO]:
    """Open stdout (None or "-") or a new file for bytes; raise BtError when it cannot be written.

    The file is made beside its final name, readable by its owner only (it may name patients), and
    renamed when complete: a reader never sees half of it, and an old one survives a failure.
    """
    if path is None or str(path) == "-":
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        # Resolved: a link keeps pointing to the file that is replaced.
        with _special(path) if _is_special(path) else atomic_write(path.resolve()) as stream:
            yield stream
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _cannot_write(path, error) from error


def check_place(path: Path) -> None:
    """Raise BtError, before the work for it is done, if a file at `path` could not be written."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if str(path) != "-" and not _is_special(path):
            tempfile.TemporaryFile(dir=path.resolve().parent).close()
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextmanager
def text_sink(path: Path | None) -> Iterator[TextIO]:
    """Open stdout or a new file for UTF-8 text; see `binary_sink`."""
    if path is None or str(path) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    with binary_sink(path) as raw:
        stream = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", newline="")
        try:
            yield stream
            stream.flush()
        finally:
            stream.detach()


def stdout_is_terminal() -> bool:
    """Tell whether a person reads stdout."""
    return sys.stdout.isatty()


def _cannot_write(path: Path, error: OSError) -> BtError:
    return BtError(
        f"cannot write {printable(str(path))}: {error.strerror or error}", hint="choose another place with -o"
    )


def _is_special(path: Path) -> bool:
    """Whether it is a device or a pipe (/dev/stderr), which cannot be replaced."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


@contextmanager
def _special(path: Path) -> Iterator[BinaryIO]:
    with path.open("wb") as stream:
        yield stream
