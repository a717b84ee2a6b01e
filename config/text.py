"""Make text of unknown origin safe to show: file names, error reasons, class names.

Control characters would drive a terminal, bidirectional overrides would reorder what a person
reads (CVE-2021-42574), and a newline would forge a log line.
"""

from __future__ import annotations

import os
import unicodedata

# Said wherever a result is read.
DISCLAIMER = "Not a medical device: research use only, never for diagnosis or treatment."

# Categories shown as escapes: controls, formats (bidi overrides among them), surrogates (bytes that
# are not UTF-8), private use, unassigned, line and paragraph separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str) -> str:
    r"""Return `text` with every unsafe character as `\xNN` (bytes, controls) or `\uNNNN`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(char) if unicodedata.category(char) in _UNSAFE else char for char in text)


def printable_name(name: bytes) -> str:
    """Return a file name or path of any bytes as text that is safe in a terminal and a log."""
    return printable(os.fsdecode(name))


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that os.fsdecode could not read as UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
