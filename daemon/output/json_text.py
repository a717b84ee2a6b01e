"""Results as JSON: one array that streams, or one object a line.

A file name is given as text from which Python's `os.fsencode` makes the same bytes (PEP 383); where
a name is not UTF-8 that text holds lone surrogates, so `<column>_bytes_hex` beside it gives the bytes
to readers in other languages. Characters that could drive a terminal are written as JSON escapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo
from typing import Any, TextIO

from config.text import printable
from daemon.output.cells import is_utf8, iso_time, name_text
from daemon.output.columns import Column, Kind

# Digits kept of a confidence: far below what a network's output means.
CONFIDENCE_DIGITS = 6

_DELETE = "\x7f"  # a control character that JSON allows unescaped
_NOT_PLAIN = re.compile(r"[^ -~]")
_encode: Callable[[object], str] = json.JSONEncoder(ensure_ascii=False).encode


def write_json(rows: Iterable[Any], columns: Sequence[Column], zone: tzinfo, stream: TextIO) -> int:
    """Write one JSON array, a row a line, in constant memory; return the number of rows."""
    count = 0
    for row in rows:
        stream.write("[\n" if count == 0 else ",\n")
        stream.write(json_text(json_object(row, columns, zone)))
        count += 1
    stream.write("\n]\n" if count else "[]\n")
    return count


def write_json_lines(rows: Iterable[Any], columns: Sequence[Column], zone: tzinfo, stream: TextIO) -> int:
    """Write one JSON object a line; return the number of rows."""
    count = 0
    for row in rows:
        stream.write(json_text(json_object(row, columns, zone)) + "\n")
        count += 1
    return count


def json_object(row: Any, columns: Sequence[Column], zone: tzinfo) -> dict[str, Any]:
    """Return a row as the dict that becomes its JSON object."""
    found: dict[str, Any] = {}
    for column in columns:
        value = column.read(row)
        if value is None:
            found[column.name] = None
        elif column.kind is Kind.NAME:
            found.update(json_name(column.name, value))
        elif column.kind is Kind.TIME:
            found[column.name] = iso_time(value, zone)
        elif column.kind is Kind.CONFIDENCE:
            found[column.name] = round(value, CONFIDENCE_DIGITS)
        else:
            found[column.name] = value
    return found


def json_name(key: str, name: bytes) -> dict[str, str]:
    """Return the one or two members that hold a file name."""
    text = {key: name_text(name)}
    return text if is_utf8(name) else text | {f"{key}_bytes_hex": name.hex()}


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return JSON in which letters stay readable and everything unsafe to show is an escape."""
    encoded = _encode(value) if indent is None else json.dumps(value, ensure_ascii=False, indent=indent)
    if encoded.isascii() and _DELETE not in encoded:
        return encoded  # the other control characters are escapes already
    return _NOT_PLAIN.sub(_escape_unsafe, encoded)


def _escape_unsafe(match: re.Match[str]) -> str:
    char = match[0]
    if char == "\n" or printable(char) == char:
        return char
    return "\\u007f" if char == _DELETE else json.dumps(char)[1:-1]
