"""Tell who may send images: by AE title, by network address, or by both."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from config.errors import UsageError
from config.text import printable

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_TITLE = re.compile(r"[ -\[\]-~]{1,16}")  # PS3.5, 6.2: ASCII without backslash and controls


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may send; what is None is not asked for."""

    title: str | None
    network: _Network | None


class Callers:
    """Those who may send; all may if nobody is named."""

    def __init__(self, entries: Iterable[Caller]) -> None:
        self.entries = tuple(entries)

    @property
    def by_title_only(self) -> bool:
        """Whether a name that anybody can give is enough for some."""
        return any(entry.network is None for entry in self.entries)

    def allow(self, title: str, address: str) -> bool:
        """Tell whether a caller of that AE title may send from that address."""
        return not self.entries or any(
            entry.title in (None, title) and _within(address, entry.network) for entry in self.entries
        )

    def may_connect(self, address: str) -> bool:
        """Tell whether somebody at that address may be asked for a title at all."""
        return not self.entries or any(_within(address, entry.network) for entry in self.entries)


def parse_caller(text: str) -> Caller:
    """Return who is meant by TITLE, ADDRESS, NETWORK or TITLE@ADDRESS; raise UsageError for anything else."""
    title, at, place = text.rpartition("@")
    try:
        network = ipaddress.ip_network(place, strict=False)
    except ValueError:
        if at:
            raise UsageError(
                f"--allow: {printable(repr(place))} is no address or network",
                hint="write it as MRI1@10.0.0.5 or MRI1@10.0.0.0/24",
            ) from None
        return Caller(checked_title(text, "--allow"), None)
    return Caller(checked_title(title, "--allow") if at else None, network)


def checked_title(text: str, option: str) -> str:
    """Return an AE title without blanks around it; raise UsageError if it cannot be one."""
    title = text.strip(" ")
    if title and _TITLE.fullmatch(title):
        return title
    raise UsageError(
        f"{option}: {printable(repr(text))} is no AE title",
        hint="an AE title has 1 to 16 ASCII characters and no backslash",
    )


def _within(address: str, network: _Network | None) -> bool:
    if network is None:
        return True
    found = ipaddress.ip_address(address.partition("%")[0])  # without an interface's name
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found in network
