"""Format one value as text: times, confidences, file names of any bytes, texts that begin a formula."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, tzinfo

from config.text import printable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# What makes a spreadsheet take a text for a formula (OWASP, "CSV Injection"), the full-width forms
# that some versions of Excel read as well among them.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}",
                   "\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}")  # fmt: skip


def when(microseconds: int, zone: tzinfo) -> datetime:
    """Return a stored time (microseconds since the epoch, UTC) as an aware datetime of `zone`."""
    return (_EPOCH + timedelta(microseconds=microseconds)).astimezone(zone)


def iso_time(microseconds: int, zone: tzinfo) -> str:
    """Return a stored time exactly: 2026-11-24T09:12:05.123456+01:00."""
    return when(microseconds, zone).isoformat(timespec="microseconds")


def clock_time(microseconds: int, zone: tzinfo) -> str:
    """Return a stored time for people, to the second: 2026-11-24 09:12:05+01:00."""
    return when(microseconds, zone).isoformat(" ", "seconds")


def confidence_text(confidence: float) -> str:
    """Return a confidence with three decimals, cut and not rounded: 0.9996 is not shown as 1.000."""
    # The small addend undoes the binary fraction of numbers such as 0.29, not a decision's worth.
    return f"{int(confidence * 1000 + 1e-9) / 1000:.3f}"


def name_text(name: bytes) -> str:
    """Return a path of any bytes as text from which `os.fsencode` makes the same bytes (PEP 383)."""
    return os.fsdecode(name)


def is_utf8(name: bytes) -> bool:
    """Tell whether a name is text in UTF-8."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def spreadsheet_text(text: str) -> str:
    """Return `text` printable, and with a quote before what a spreadsheet would take for a formula."""
    return printable("'" + text if text.startswith(_FORMULA_STARTS) else text)


def unquoted(text: str) -> str:
    """Return a cell without the quote that `spreadsheet_text` put before what looked like a formula."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA_STARTS) else text


def ago(seconds: float) -> str:
    """Return a length of time roughly, for people: 850 ms, 42 s, 12 min, 3.5 h, 12 d."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.3g} {unit}" if unit == "h" else f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def size_text(count: int) -> str:
    """Return a number of bytes for people: 812 B, 34.5 KiB, 1.2 GiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
