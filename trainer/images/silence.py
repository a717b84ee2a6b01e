"""Silence decoders: C libraries print to the terminal, loggers quote a file's values."""

from __future__ import annotations

import io
import logging
import os
import sys


def silence_c_libraries() -> None:
    """Point file descriptor 2 of this process at nothing and keep Python's `sys.stderr` where it was.

    For a process that decodes files of unknown origin, once, at its start; decoding then costs
    nothing extra. Messages of the interpreter itself on its way down are lost with it.
    """
    try:
        kept = os.dup(2)
    except OSError:  # the process has no stderr at all
        return
    sys.stderr.flush()
    sys.stderr = io.TextIOWrapper(os.fdopen(kept, "wb", 0), write_through=True, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def silence_loggers(*names: str) -> None:
    """Keep what these libraries log from every handler: it quotes metadata, which may be a patient's."""
    for name in names:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.handlers[:] = [logging.NullHandler()]  # without any, warnings would go to stderr
