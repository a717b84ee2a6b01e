"""Text of unknown origin cannot drive a terminal or forge a log line."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from config.text import printable, printable_name


def test_controls_bidi_and_foreign_bytes_are_escaped() -> None:
    assert printable("a\x1b[2Jb\nc\u202ed") == "a\\x1b[2Jb\\x0ac\\u202ed"
    assert printable_name(b"caf\xe9.png") == "caf\\xe9.png"
    assert printable_name("caf\u00e9 \u8111.png".encode()) == "caf\u00e9 \u8111.png"


@given(st.binary(max_size=255))
def test_any_name_becomes_one_printable_line_that_can_be_encoded(name: bytes) -> None:
    shown = printable_name(name)

    assert all(unicodedata.category(char)[0] != "C" for char in shown)
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
