"""How a command line ends: one line on stderr for an error, and an exit code that means something."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from config.errors import BtError

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def run(program: click.Command, name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a click program and return its exit code; no exception of ours leaves as a traceback."""
    try:
        result = program.main(args=arguments, prog_name=name, standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return _fail(name, _one_line(error), error.exit_code)
    except BtError as error:
        return _fail(name, str(error), error.exit_code)
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing to say, and nothing left to flush into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (click.Abort, KeyboardInterrupt):
        return _fail(name, "interrupted", EXIT_INTERRUPTED)
    return result if isinstance(result, int) else 0


def _one_line(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    where = f" (see {context.command_path} --help)" if context is not None else ""
    return " ".join(error.format_message().split()) + where


def _fail(name: str, message: str, code: int) -> int:
    sys.stderr.write(f"{name}: {message}\n")
    return code
