"""Address of the head, as --workers and `bt-daemon worker` take it: tcp://HOST:PORT or tls://HOST:PORT."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from config.errors import UsageError
from config.text import printable

_PATTERN = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[^\s/:\[\]@]*)(?::(\d{1,5}))?/?")
DEFAULT_PORT = 8786
_MAKE_KEY = "make a key with bt-daemon worker --make-key FILE, give --workers-key FILE on every machine"


@dataclass(frozen=True, slots=True)
class HeadAddress:
    """Where the head listens."""

    host: str  # "" for every address of this machine; IPv6 without brackets
    port: int
    encrypted: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.encrypted else 'tcp'}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def head_address(given: str, key: str, *, joining: bool) -> HeadAddress:
    """Return the address that was given; with a `key` it is encrypted.

    Raises UsageError for what is no address, and for one beyond this machine without encryption: whoever
    reached it could have this machine run any code.
    """
    match = _PATTERN.fullmatch(given)
    if match is None or not 0 < int(match[3] or DEFAULT_PORT) < 1 << 16:
        raise UsageError(
            f"{printable(repr(given))} is no address of a head",
            hint=f"write tcp://HOST:{DEFAULT_PORT} or tls://HOST:{DEFAULT_PORT}",
        )
    host = match[2].strip("[]")
    address = HeadAddress(host, int(match[3] or DEFAULT_PORT), match[1] == "tls" or bool(key))
    shown = printable(given)
    if joining and not host:
        raise UsageError(f"{shown} names no machine", hint="write the address of the head's machine")
    if address.encrypted and not key:
        raise UsageError(f"{shown} is encrypted, and there is no key for it", hint=_MAKE_KEY)
    if not address.encrypted and not address.is_loopback:
        raise UsageError(f"{shown} is reached from other machines, and nothing protects it", hint=_MAKE_KEY)
    return address
