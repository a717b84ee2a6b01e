"""Run a click program: one line on stderr for an error, and an exit code that means something."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence

import click

from config.errors import BtError
from config.extras import not_installed
from config.text import printable

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


def run(program: click.Command, name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a click program and return its exit code; no exception of ours leaves as a traceback."""
    _prepare_streams()
    stdout = sys.stdout
    try:
        result = program.main(args=arguments, prog_name=name, standalone_mode=False)
        sys.stdout.flush()  # here, where a closed pipe or a full disk can still be told
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.ClickException, BtError, ModuleNotFoundError) as error:
        return _explained(name, not_installed(error) if isinstance(error, ModuleNotFoundError) else error)
    except SystemExit:
        if sys.stdout is stdout:
            raise
        # click has met a closed pipe: it wraps stdout and leaves with 1.
        sys.stdout = stdout
        return _output_ended(name, BrokenPipeError())
    except OSError as error:
        return _output_ended(name, error)
    except (click.Abort, KeyboardInterrupt):
        return _fail(name, "interrupted", EXIT_INTERRUPTED)
    return result if isinstance(result, int) else 0


def _explained(name: str, error: click.ClickException | BtError) -> int:
    """Say in one line what went wrong; where no command was named, show which there are."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message())
        return error.exit_code  # 2: nothing was done, which a script with an empty variable should learn
    return _fail(name, str(error) if isinstance(error, BtError) else _one_line(error), error.exit_code)


def _prepare_streams() -> None:
    """Give a closed stream (`>&-`) one that goes nowhere, and speak UTF-8 whatever the locale is.

    JSON must be UTF-8 (RFC 8259, 8.1), and a file name must not be a traceback in an ASCII locale.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _output_ended(name: str, error: OSError) -> int:
    """Return the exit code when stdout takes no more, or another file or folder could not be used."""
    if isinstance(error, BrokenPipeError):
        _discard_output()  # the reader (head, less) has gone: nothing to say
        return 0
    if error.errno in _DISK_ERRORS:
        _discard_output()
        return _fail(name, f"cannot write: {error.strerror}", BtError.exit_code)
    if error.errno is None:
        raise error  # of no call to the system: a mistake of ours
    named = error.filename if error.filename is not None else ""
    where = f"{printable(os.fsdecode(named) if isinstance(named, str | bytes) else str(named))}: "
    return _fail(name, f"{where if named else ''}{error.strerror}", BtError.exit_code)


def _discard_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter's own flush does not fail too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _one_line(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    where = f" (see {context.command_path} --help)" if context is not None else ""
    return " ".join(error.format_message().split()) + where


def _fail(name: str, message: str, code: int) -> int:
    sys.stderr.write(f"{name}: {message}\n")
    return code
