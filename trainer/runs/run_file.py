"""run.toml: every option of a training by its name, read with line numbers and written whole."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.errors import UsageError
from config.files import atomic_write
from config.text import printable

RUN_FILE = "run.toml"
_HEAD = """\
# Every option of this run. The same again, into another folder:
#   bt-train --config run.toml -o OTHER
"""


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file of options as it was read."""

    path: Path
    values: Mapping[str, Any]  # option without its dashes -> TOML value
    text: str

    def place(self, key: str) -> str:
        """Return the file and the line of a key, for messages."""
        shown = printable(str(self.path))
        pattern = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]|\s*\[+\s*{re.escape(key)}\s*\]")
        for number, line in enumerate(self.text.splitlines(), start=1):
            if pattern.match(line):
                return f"{shown}, line {number}"
        return shown


def read_run_file(path: Path) -> RunFile:
    """Return a file of options; raise UsageError if it cannot be read or is no TOML."""
    shown = printable(str(path))
    try:
        text = path.read_text(encoding="utf-8")
        return RunFile(path, tomllib.loads(text), text)
    except OSError as error:
        raise UsageError(f"cannot read {shown} ({error.strerror})", hint="give --config FILE") from None
    except UnicodeDecodeError:
        raise UsageError(f"{shown} is not UTF-8", hint="save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{shown} is not TOML: {error}", hint='write lines such as arch = "cnn"') from None


def write_run_file(path: Path, options: Mapping[str, Any]) -> None:
    """Write options (name -> plain value, None if not given) in their order; raise OSError."""
    lines = [_line(name, value) for name, value in options.items()]
    with atomic_write(path, mode=0o644) as stream:
        stream.write(("\n".join([_HEAD, *lines]) + "\n").encode())


def _line(name: str, value: object) -> str:
    if value is None:
        return f"# {name}: not given"
    try:
        text = _toml(value)
        text.encode()
    except UnicodeEncodeError:  # a name of a file that is no UTF-8, which TOML cannot hold
        return f"# {name}: {printable(str(value))} is not UTF-8; give it on the command line"
    return f"{name} = {text}"


def _toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)  # numbers and booleans are written alike in both
