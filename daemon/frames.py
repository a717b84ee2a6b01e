"""Messages between processes as a length and bytes: what has come is read, nobody is waited for."""

from __future__ import annotations

import os
import struct

LENGTH = struct.Struct("!I")
_CHUNK = 1 << 16


class GarbledError(ValueError):
    """What came is no message: its sender is broken, or not what it was started as."""


class FrameReader:
    """Puts together the messages of one sender, who may be stopped or killed in the midst of one."""

    def __init__(self, most_bytes: int) -> None:
        """Messages larger than `most_bytes` are refused before they are read."""
        self._most = most_bytes
        self._held = bytearray()

    def read(self, descriptor: int) -> list[bytes]:
        """Return the messages that are complete after one read of a descriptor that can be read.

        Raises EOFError when the sender has closed it, OSError when it failed, GarbledError.
        """
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            raise EOFError
        self._held += chunk
        messages = []
        while len(self._held) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._held)
            if length > self._most:
                raise GarbledError(f"a message of {length} bytes")
            end = LENGTH.size + length
            if len(self._held) < end:
                break
            messages.append(bytes(self._held[LENGTH.size : end]))
            del self._held[:end]
        return messages


def send_frame(descriptor: int, message: bytes) -> None:
    """Write one whole message, waiting for the reader as long as it takes; raise OSError if it has gone."""
    rest = memoryview(LENGTH.pack(len(message)) + message)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
