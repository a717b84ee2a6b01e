"""Text for PostgreSQL, which has no character NUL: stored, and searched for, is U+FFFD in its place."""

from __future__ import annotations

import psycopg
from psycopg.types.string import StrBinaryDumper, StrDumperUnknown

_NUL, _REPLACEMENT = "\0", "\ufffd"


class _Text(StrDumperUnknown):
    """Text as psycopg sends it."""

    def dump(self, obj: str) -> bytes:
        """Return what is sent."""
        return bytes(super().dump(obj.replace(_NUL, _REPLACEMENT)) or b"")


class _BinaryText(StrBinaryDumper):
    """The same where values are sent in binary."""

    def dump(self, obj: str) -> bytes:
        """Return what is sent."""
        return bytes(super().dump(obj.replace(_NUL, _REPLACEMENT)) or b"")


def send_any_text(driver: psycopg.Connection) -> None:
    """Let a session take any text: an answer of a person is not refused for a character that none typed."""
    driver.adapters.register_dumper(str, _BinaryText)
    driver.adapters.register_dumper(str, _Text)
